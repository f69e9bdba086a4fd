"""docs/results/nusax.md: the reports of the committed cells, and the tables of pages out of them.

    cp -r nusax-run/cells experiments/nusax/
    python experiments/nusax/page.py

writes what stands in the pages between the marks `<!-- NAME -->` and `<!-- end -->`, and the reports beside
the first. The text around is written by hand.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import results

from taxlt_mergekit import markdown
from taxlt_mergekit.cells.choices import Choice, choices_below
from taxlt_mergekit.cells.collect import collect
from taxlt_mergekit.paper.tables import printed_score
from taxlt_mergekit.paper.variants import MODEL, NAMES, table_name_of
from taxlt_mergekit.report.by_language import by_language, chosen_rows
from taxlt_mergekit.report.regret import by_criterion
from taxlt_mergekit.report.study import Options, Study, studies
from taxlt_mergekit.report.tables import Block, Item, Number, Table

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "results/nusax.md"
PAGES = (PAGE, DOCS / "choosing-lambda.md")
CELLS = Path(__file__).with_name("cells")
TEST = Options(split="test", per_language=True, baselines=())
TARGET = table_name_of("plus_tgt")
MARKED = re.compile(r"(<!-- (?!end)([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def main() -> None:
    """Write the reports and fill the page."""
    for group in results.groups(CELLS):
        folder = PAGE.with_suffix("") / group
        words = [*results.command(group, CELLS), "--output", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "taxlt_mergekit", *words], check=True, stdout=subprocess.DEVNULL
        )
        for path in (*folder.glob("*.csv"), *folder.glob("*.png")):  # report.md and its pictures say the same
            path.unlink()
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), CELLS), encoding="utf-8")


def filled(page: str, cells: Path) -> str:
    """The page with its tables as the cells have them.

    Raises:
        KeyError: a table that nothing writes.
    """
    facts = json.loads((cells / results.FACTS).read_text("utf-8"))
    found = {
        "scores": lambda: scores(cells / results.UNSEEN),
        "scores-seen": lambda: scores(cells / results.SEEN),
        "gains": lambda: gains(cells / results.UNSEEN),
        "perplexity": lambda: perplexity(facts["perplexity"]),
        "paper": lambda: paper(cells / results.UNSEEN),
        "paper-seen": lambda: paper(cells / results.SEEN),
        "regret-unseen": lambda: regret(cells / results.REGRET / results.UNSEEN),
        "regret-seen": lambda: regret(cells / results.REGRET / results.SEEN),
        "time": lambda: time(facts["seconds"]),
    }
    return MARKED.sub(lambda part: f"{part[1]}\n{found[part[2]]()}\n\n{part[3]}", page)


def scores(cells: Path) -> str:
    """Test scores of all rows, what each gains over MODEL in the same seeds, and the number of seeds."""
    study = _study(cells)
    seeds = {
        line.label: {seed for by_seed in study.behind(line).values() for seed in by_seed}
        for line in chosen_rows(study, "test", TEST, [])
    }
    table = _tables(by_language(study, TEST))[0]
    gained = _differences(study, MODEL)
    shown = []
    for label, *figures in (list(map(_text, row)) for row in table.rows):
        gain = _text(gained[label]["mean"]) if label in gained else ""
        shown.append([label, *figures, gain, str(len(seeds[label]))])
    return markdown.table([*table.header, "over MODEL", "seeds"], shown)


def gains(cells: Path) -> str:
    """What +TGT gains over MODEL and over each control, in points, by language and on their mean."""
    study = _study(cells)
    gained = {variant: _differences(study, variant)[TARGET] for variant in results.baselines(cells)}
    lines = [[table_name_of(variant), *map(_text, row.values())] for variant, row in gained.items()]
    return markdown.table([f"{TARGET} against", *next(iter(gained.values()))], lines)


def _differences(study: Study, baseline: str) -> dict[str, dict[str, Item]]:
    """Method → language (or the mean) → the report's difference from a baseline."""
    tables = _tables(by_language(study, replace(TEST, baselines=(baseline,))))
    table = next(table for table in tables if table.name.startswith("differences"))
    found = {str(row[0]): dict(zip(table.header[1:], row[1:], strict=True)) for row in table.rows}
    if table.header[0] == "Method":
        return found
    # The report turns a table of many methods.
    return {method: {column: row[method] for column, row in found.items()} for method in table.header[1:]}


def _study(cells: Path, choices: Sequence[Choice] = ()) -> Study:
    (study,) = studies(collect([cells], {}, None).cells, choices)
    return study


def _tables(blocks: Sequence[Block]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def _markdown(table: Table) -> str:
    return markdown.table(table.header, [[_text(item) for item in row] for row in table.rows])


def _text(item: Item) -> str:
    return item if isinstance(item, str) else item.text


def paper(cells: Path) -> str:
    """Test scores of the paper's variants, and the paper's own of the same languages (tables 2c and 8b)."""
    study = _study(cells)
    table = _tables(by_language(study, TEST))[0]
    languages = [code.lower() for code in table.header[1:-1]]  # the last is the mean
    found = {row[0]: [item.value for item in row[1:] if isinstance(item, Number)] for row in table.rows}
    lines = []
    for variant in NAMES:
        label = table_name_of(variant)
        if label not in found:
            continue
        lines.append([f"{label}, here", *(Number(value).text for value in found[label])])
        for size in ("base", "large"):
            there = [printed_score(str(study.benchmark), size, variant, code) for code in languages]
            printed = [figure.value for figure in there if figure is not None]
            if len(printed) == len(languages):
                lines.append([f"{label}, the paper's XLM-R {size}", *_with_mean(printed)])
    return markdown.table(["Method", *(code.upper() for code in languages), "mean"], lines)


def _with_mean(values: Sequence[float]) -> Iterator[str]:
    return (Number(value).text for value in (*values, fmean(values)))


def regret(cells: Path) -> str:
    """What each way of choosing λ costs: the report's table of means."""
    choices = choices_below([cells])
    return _markdown(_tables(by_criterion(_study(cells, choices), choices, TEST))[0])


def perplexity(found: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Validation perplexity of each language's masked LM by training steps, the mean over seeds."""
    by_name: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder, points in found.items():
        for step, value in points:
            by_name[Path(folder).name][step].append(value)
    steps = sorted({step for points in by_name.values() for step in points})
    rows = [
        [name, *(f"{fmean(points[step]):.1f}" if step in points else "–" for step in steps)]
        for name, points in by_name.items()
    ]
    return markdown.table(["Masked LM", *(f"{step:,}" for step in steps)], rows)


def time(seconds: Mapping[str, float]) -> str:
    """Of each stage, all seeds together."""
    stages: dict[str, float] = defaultdict(float)
    for stage, value in seconds.items():
        stages[stage.partition(", seed")[0]] += value
    return markdown.table(
        ["Stage", "Minutes"], [[name, f"{value / 60:.1f}"] for name, value in stages.items()]
    )


if __name__ == "__main__":
    main()
