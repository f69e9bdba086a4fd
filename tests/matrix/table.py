"""docs/families.md: what comes out right, what is refused and why, what transformers cannot build."""

from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version

from taxlt_mergekit.markdown import table
from tests.matrix.cases import HEADS, SAME, Case
from tests.matrix.merging import VERDICTS, Result

# What users call them → the row to look at.
NAMES = {
    "XLM-R base and large, Glot500, multilingual-e5": "xlm-roberta",
    "XLM-R XL": "xlm-roberta-xl",
    "mBERT, LaBSE": "bert",
    "mDeBERTa-v3": "deberta-v2",
    "mmBERT": "modernbert",
    "EuroBERT": "eurobert",
    "RemBERT": "rembert",
    "X-MOD": "xmod",
    "CANINE": "canine",
    "mT5": "mt5",
    "umT5": "umt5",
    "ByT5": "t5",
    "NLLB": "m2m_100",
    "Gemma 3": "gemma3",
    "Gemma 3, text only": "gemma3_text",
    "Qwen 3": "qwen3",
    "Llama": "llama",
}
_WORDS = {"unbuildable": "not built"}
COLUMNS = [*HEADS, SAME, "without head"]
_START = """# Which families can be merged

Written by `python -m tests.matrix --write docs/families.md`; change nothing by hand.

Tiny random checkpoints of every model type of transformers {transformers} that has a language model were
merged (mergekit {mergekit}): θ₀ and two language models of one class, and a task model that starts from θ₀.
Each output was loaded with transformers, and every parameter and buffer compared with
θ₀ + (θ_T − θ₀) + Σ λ (θ_i − θ₀), and outside the base model with the task model's own, bit for bit.

{counts}.

"""
_LEGEND = """
## Every family

One row a model type (`model_type` in config.json) and a class of language models. Columns: heads of the task
model (sequence classification, token classification, question answering, multiple choice); a task model of
the language models' own class; language models, or they and θ₀, saved without head, for a classifier.
"right": compared and equal. "–": transformers has no such class. Numbers say what is refused, below.

"""


def page(cases: Iterable[Case], results: Iterable[Result]) -> str:
    """The page as Markdown; the same text whatever the order of the results."""
    by_name = {case.name: case for case in cases}
    found = sorted(((by_name[r.case], r) for r in results), key=lambda pair: pair[0].name)
    reasons = {text: number for number, text in enumerate(_reasons(r for _, r in found), start=1)}
    rows = _rows(found, reasons)
    parts = [
        _START.format(
            transformers=version("transformers"), mergekit=version("mergekit"), counts=_counts(found)
        ),
        _table(["models", "model type"], _named_rows(rows)),
        _LEGEND,
        _table(["model type", "language model"], [[*key, *cells] for key, cells in sorted(rows.items())]),
    ]
    if reasons:
        parts.append("\n## Refused\n\n")
        parts += [f"{number}. {text}\n" for text, number in reasons.items()]
    parts += _section("Wrong", [p for p in found if p[1].verdict in ("wrong", "drift", "traceback")])
    parts += _section(
        "Not built: transformers fails before anything is merged",
        [p for p in found if p[1].verdict == "unbuildable"],
    )
    return "".join(parts)


def _counts(found: list[tuple[Case, Result]]) -> str:
    verdicts = [result.verdict for _, result in found]
    counted = ", ".join(f"{verdicts.count(v)} {_WORDS.get(v, v)}" for v in VERDICTS if v in verdicts)
    return f"{len(found)} merges: {counted}"


def _reasons(results: Iterable[Result]) -> list[str]:
    return sorted({result.reason for result in results if result.verdict == "refused"})


def _rows(found: list[tuple[Case, Result]], reasons: dict[str, int]) -> dict[tuple[str, str], list[str]]:
    cells: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for case, result in found:
        column = "without head" if case.body else case.head
        text = f"refused ({reasons[result.reason]})" if result.verdict == "refused" else result.verdict
        cells[case.model_type, case.language_model][column].add(
            "not built" if text == "unbuildable" else text
        )
    return {
        key: [", ".join(sorted(row[c])) if c in row else "–" for c in COLUMNS] for key, row in cells.items()
    }


def _named_rows(rows: dict[tuple[str, str], list[str]]) -> list[list[str]]:
    """The first class of each named model: masked before causal, as the mappings have them."""
    return [
        [name, model_type, *cells]
        for name, model_type in NAMES.items()
        for cells in [rows[key] for key in sorted(rows, reverse=True) if key[0] == model_type][:1]
    ]


def _section(title: str, found: list[tuple[Case, Result]]) -> list[str]:
    lines: dict[str, list[str]] = defaultdict(list)
    for case, result in found:
        lines[result.reason].append(case.name)
    if not lines:
        return []
    listed = [
        f"- {', '.join(f'`{name}`' for name in names)}: {reason}\n" for reason, names in sorted(lines.items())
    ]
    return [f"\n## {title}\n\n", *listed]


def _table(keys: list[str], rows: list[list[str]]) -> str:
    head = [*keys, *COLUMNS]
    return table(head, rows, left=len(head)) + "\n"
