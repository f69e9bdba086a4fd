"""How a report calls things: λ, splits, metrics, languages, models, and what is missing of a grid."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from taxlt_mergekit.cells.selection import Grid
from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.paper.catalog import Split, size_of

METRICS = {"acc": "accuracy (%)", "f1_macro": "macro-F1 (%)"}
SPLITS: dict[Split, str] = {"dev": "validation", "test": "test"}


def weight_label(parameters: Parameters) -> str:
    """λ for a reader: one number, or all where they differ; the density where it is not dense."""
    source, target = parameters.source_weight, parameters.target_weight
    if parameters.groups is not None:
        text = parameters.groups.text
    elif source is not None and target is not None and source != target:
        text = f"source {source:g}, target {target:g}"
    else:
        weight = target if source is None else source
        text = "" if weight is None else f"{weight:g}"
    if parameters.density is not None:
        kept = f"density {parameters.density:g}"
        if parameters.select or parameters.scope:
            scope = parameters.scope or "global"
            kept = f"{parameters.select or 'top'} {100 * parameters.density:g} %, {scope}"
        text = f"{text} ({kept})".strip()
    return text


def weight_labels(settings: Iterable[Parameters]) -> str:
    return ", ".join(weight_label(parameters) or "unknown" for parameters in sorted(settings, key=by_weight))


def by_weight(parameters: Parameters) -> tuple:
    """Sort key: λ of the target, λ of the source, density; λ by group last."""
    numbers = (parameters.target_weight, parameters.source_weight, parameters.density)
    names = (parameters.select, parameters.scope)
    groups = parameters.groups.by_name.values() if parameters.groups else ()
    return (
        *(-1.0 if number is None else number for number in numbers),
        *(name or "" for name in names),
        *groups,
    )


def holes(scores: Grid, full: Grid) -> list[str]:
    """What of a grid is not in its averages, since cells are missing."""
    texts = []
    gone = scores.keys() - full.keys()
    if gone:
        texts.append(f"no mean at λ {weight_labels(gone)}, which was not scored on all languages")
    kept = {column for row in full.values() for column in row}
    columns = sorted({column for row in scores.values() for column in row} - kept)
    if columns:
        texts.append(f"without {', '.join(columns)}, not scored at all of these λ")
    return texts


def percent(score: float | None) -> float | None:
    return None if score is None else 100 * score


def percents(scores: Mapping[str, float], columns: Iterable[str]) -> list[float | None]:
    return [percent(scores.get(column)) for column in columns]


def code_label(column: str) -> str:
    """Language codes as the paper prints them; tasks as they are."""
    return column.upper() if len(column) <= 3 else column


def slug(text: str) -> str:
    """A piece of a file's name; the paper's models by their folder's name."""
    name = Path(text).name if size_of(text) else text.strip("/").lower()
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name) or "unknown"


def seeds_label(seeds: Iterable[int | None]) -> str:
    """`seed 1`, `seeds 1 and 3`; those that are not known are left out."""
    names = [str(seed) for seed in sorted(seed for seed in seeds if seed is not None)]
    return f"seed{'s' * (len(names) != 1)} {' and '.join(names)}" if names else ""
