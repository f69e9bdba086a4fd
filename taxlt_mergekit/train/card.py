"""The README.md of a trained vector: what it started from, what it read, how, and how well it went."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from taxlt_mergekit import __version__
from taxlt_mergekit.train import settings as ts

PAPER = (
    "Marinela Parović, Ivan Vulić, Anna Korhonen. *Investigating the Potential of Task Arithmetic for "
    "Cross-Lingual Transfer*. EACL 2024. https://aclanthology.org/2024.eacl-short.12/"
)
CURVE_ROWS = 50


def write(
    kind: ts.Kind,
    settings: ts.Settings,
    facts: Sequence[tuple[str, str]],
    inputs: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    best: float,
) -> str:
    """The card's Markdown.

    Args:
        kind: which command made it.
        settings: resolved.
        facts: as printed at the start.
        inputs: `base_model` (name and hashes) and `data` (one mapping a corpus: name, counts, sha256).
        history: Trainer's log.
        best: the metric of the kept checkpoint.
    """
    name = Path(settings.output or "").name
    adapter = settings.lora_rank is not None and not settings.merge_lora
    what = "language vector" if kind == "language" else "task vector"
    metadata: dict[str, Any] = {
        "base_model": settings.model,
        "library_name": "peft" if adapter else "transformers",
        "tags": ["taxlt-mergekit", "task-arithmetic", what.replace(" ", "-")],
    }
    if isinstance(settings, ts.LanguageSettings) and settings.lang:
        metadata["language"] = settings.lang
    form = (
        f"a peft adapter of rank {settings.lora_rank}, for mergekit `{settings.model}+{settings.output}`"
        if adapter
        else "a whole checkpoint, from which mergekit subtracts the base model"
    )
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        f"θ for a {what}, τ = θ − θ₀, trained with taxlt-mergekit {__version__}. This folder holds {form}.",
        f"Method: {PAPER}",
        "## Base model (θ₀)",
        _table(
            ["file", "SHA-256 or commit"],
            [[str(key), str(value)] for key, value in inputs["base_model"].items()],
        ),
        "## Data",
        _data_table(inputs["data"]),
        "## Training",
        _table(["", ""], [[name, value] for name, value in facts]),
        "## Validation",
        _curve(history, best),
        f"## Settings\n\nThe same as `{ts.SETTINGS_FILE}`, which `taxlt train {kind} --config` reads.",
        f"```yaml\n{yaml.safe_dump(ts.flat(settings), sort_keys=False, allow_unicode=True)}```\n",
    ]
    return "\n\n".join(parts)


def _data_table(data: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for entry in data for key in entry))
    return _table(columns, [[_cell(entry.get(column, "")) for column in columns] for entry in data])


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _curve(history: Sequence[Mapping[str, float]], best: float) -> str:
    entries = [entry for entry in history if "eval_loss" in entry]
    shown = {
        "eval_loss": "loss",
        "eval_perplexity": "perplexity",
        "eval_accuracy": "accuracy",
        "eval_f1": "macro-F1",
    }
    columns = [key for key in shown if any(key in entry for entry in entries)]
    # A long curve is thinned, but its best step always stands in it.
    stride = math.ceil(len(entries) / CURVE_ROWS)
    kept = [
        entry
        for at, entry in enumerate(entries)
        if at % stride == 0 or at == len(entries) - 1 or best in (entry.get(key) for key in columns)
    ]
    rows = []
    for entry in kept:
        mark = " (kept)" if best in (entry.get(key) for key in columns) else ""
        rows.append([f"{entry['step']:,}{mark}", *(f"{entry[key]:.4f}" for key in columns)])
    return _table(["step", *(shown[key] for key in columns)], rows)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
