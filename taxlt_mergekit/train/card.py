"""The README.md of a trained vector: what it started from, what it read, how, and how well it went."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from taxlt_mergekit import __version__
from taxlt_mergekit.markdown import metadata, table
from taxlt_mergekit.paper import citation
from taxlt_mergekit.train.prepare import Plan
from taxlt_mergekit.train.settings import SETTINGS_FILE, LanguageSettings, flat

CURVE_ROWS = 50
METRICS = {
    "eval_loss": "loss",
    "eval_perplexity": "perplexity",
    "eval_accuracy": "accuracy",
    "eval_f1": "macro-F1",
}


def write(plan: Plan, history: Sequence[Mapping[str, float]], best: float) -> str:
    """The card's Markdown.

    Args:
        plan: that was carried out.
        history: Trainer's log.
        best: the metric of the kept checkpoint.
    """
    settings = plan.settings
    adapter = settings.lora_rank is not None and not settings.merge_lora
    form = (
        f"a peft adapter of rank {settings.lora_rank}, for mergekit `{settings.model}+{settings.output}`"
        if adapter
        else "a whole checkpoint, from which mergekit subtracts the base model"
    )
    base = [[str(key), str(value)] for key, value in plan.inputs["base_model"].items()]
    parts = [
        metadata(
            base_model=settings.model,
            library_name="peft" if adapter else "transformers",
            tags=["taxlt-mergekit", "task-arithmetic", f"{plan.kind}-vector"],
            language=(settings.lang or None) if isinstance(settings, LanguageSettings) else None,
        ),
        f"# {Path(settings.output or '').name}",
        f"θ for a {plan.kind} vector, τ = θ − θ₀, trained with taxlt-mergekit {__version__}. "
        f"This folder holds {form}.",
        f"Method: {citation.TEXT} {citation.URL}",
        "## Base model (θ₀)",
        table(["file", "SHA-256 or commit"], base, left=2),
        "## Data",
        _data(plan.inputs["data"]),
        "## Training",
        table(["", ""], plan.facts, left=2),
        "## Validation",
        _curve(history, best),
        f"## Settings\n\nThe same as `{SETTINGS_FILE}`, which `taxlt train {plan.kind} --config` reads.",
        f"```yaml\n{yaml.safe_dump(flat(settings), sort_keys=False, allow_unicode=True)}```\n",
    ]
    return "\n\n".join(parts)


def _data(data: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for entry in data for key in entry))
    return table(columns, [[_cell(entry.get(column, "")) for column in columns] for entry in data])


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _curve(history: Sequence[Mapping[str, float]], best: float) -> str:
    entries = [entry for entry in history if "eval_loss" in entry]
    columns = [key for key in METRICS if any(key in entry for entry in entries)]
    # A long curve is thinned, but its best step always stands in it.
    stride = math.ceil(len(entries) / CURVE_ROWS)
    rows = []
    for at, entry in enumerate(entries):
        kept = best in (entry.get(key) for key in columns)
        if kept or at % stride == 0 or at == len(entries) - 1:
            step = f"{entry['step']:,}{' (kept)' * kept}"
            rows.append([step, *(f"{entry[key]:.4f}" for key in columns)])
    return table(["step", *(METRICS[key] for key in columns)], rows)
