"""What a demo found: read from the results that the commands wrote, checked, shown as a table and a curve."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from taxlt_mergekit.cells.store import Cell, read_cells
from taxlt_mergekit.demo import files, world
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.variants import MODEL, VARIANTS, name_of
from taxlt_mergekit.report import plots
from taxlt_mergekit.report.plots import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONTROL = "control"
SWEEP, CONTROL_SWEEP = "results", "control/results"
COLUMNS = {key: name_of(key) for key in (MODEL, *VARIANTS)} | {CONTROL: CONTROL}
NAMES = {plan.code: f"{plan.name} ({plan.code})" for plan in (world.SOURCE, *world.TARGETS)}


@dataclass(frozen=True)
class Score:
    """Test accuracy in percent, and the λ that validation data chose (None for MODEL)."""

    accuracy: float
    weight: float | None


@dataclass(frozen=True)
class Example:
    """A test sentence with its meaning, its label, and what the two models say."""

    text: str
    gloss: str
    label: str
    model: str
    merged: str | None


@dataclass(frozen=True)
class Outcome:
    """One seed: scores by (target language, column), MODEL's test accuracy on the source, in percent."""

    seed: int
    scores: Mapping[tuple[str, str], Score]
    source: float
    examples: Mapping[str, Example]


def read_outcome(folder: Path, seed: int) -> Outcome:
    """Read one seed's results, and check that lm_eval's scores of the merged models are the sweep's.

    Raises:
        UserError: results are missing, or the two disagree in any digit or any prediction.
    """
    swept = {
        (name, _language(cell), cell.variant): cell
        for name in (SWEEP, CONTROL_SWEEP)
        for cell in _cells(folder, name, "test")
    }
    scores, examples = {}, {}
    for code in files.TARGETS:
        cells = {}
        for column in COLUMNS:
            key = (CONTROL_SWEEP, code, "plus_tgt") if column == CONTROL else (SWEEP, code, column)
            if key not in swept:
                raise UserError(f"{folder / key[0]}: no test score of {COLUMNS[column]} on {code}")
            cells[column] = swept[key]
            scores[code, column] = Score(100 * swept[key].metrics["acc"], _weight(swept[key]))
        for column, name in ((MODEL, "model"), ("plus_tgt", code)):
            _check_agreement(cells[column], _lm_eval(folder, name, code), f"{COLUMNS[column]} on {code}")
        examples[code] = _example(folder, code, cells[MODEL], cells["plus_tgt"])
    on_source = _lm_eval(folder, "model", files.SOURCE)
    examples[files.SOURCE] = _example(folder, files.SOURCE, on_source, None)
    return Outcome(seed, scores, 100 * on_source.metrics["acc"], examples)


def _cells(folder: Path, name: str, split: Split) -> list[Cell]:
    return [cell for cell in read_cells(folder / name) if (cell.status, cell.split) == ("ok", split)]


def _language(cell: Cell) -> str:
    return cell.task.rsplit("_", 1)[-1]


def _weight(cell: Cell) -> float | None:
    """λ of the language vectors, which is one where there are two; None for MODEL."""
    weights = (cell.parameters.target_weight, cell.parameters.source_weight)
    return next((weight for weight in weights if weight is not None), None)


def _lm_eval(folder: Path, name: str, code: str) -> Cell:
    """What lm_eval wrote of one model on one language."""
    from taxlt_mergekit.cells.lm_eval import read_lm_eval

    for path in sorted((folder / "scores" / name).rglob("results_*.json"), reverse=True):
        for cell in read_lm_eval(path):
            if cell.task == f"demo_{code}":
                return cell
    raise UserError(f"{folder / 'scores' / name}: lm_eval wrote no score of demo_{code}")


def _check_agreement(swept: Cell, scored: Cell, what: str) -> None:
    same = swept.metrics["acc"] == scored.metrics["acc"] and (
        swept.documents is None
        or scored.documents is None
        or swept.documents.prediction == scored.documents.prediction
    )
    if not same:
        raise UserError(
            f"{what}: taxlt sweep has accuracy {swept.metrics['acc']!r}, lm_eval of the merged model "
            f"{scored.metrics['acc']!r}, or other predictions; they must be the same"
        )


def _example(folder: Path, code: str, model: Cell, merged: Cell | None) -> Example:
    """The first test sentence on which the two models differ; of one model alone, the first."""
    lines = (folder / files.rows_file(code, "test")).read_text(encoding="utf-8").splitlines()
    ours = _answers(model)
    theirs = _answers(merged) if merged is not None else None
    at = next((n for n in range(len(lines)) if theirs is None or ours[n] != theirs[n]), 0)
    row = json.loads(lines[at])
    return Example(row["text"], row["gloss"], row["label"], ours[at], theirs[at] if theirs else None)


def _answers(cell: Cell) -> list[str]:
    if cell.documents is None:
        raise UserError(f"{cell.task}: the results hold no predictions")
    return [world.LABELS[number] for number in cell.documents.prediction]


def table(outcomes: Sequence[Outcome]) -> str:
    """The accuracies by target language, averaged over seeds, the chosen λ under each, and their mean."""
    width = max(map(len, NAMES.values())) + 2
    lines = [" " * width + "".join(f"{title:>11}" for title in COLUMNS.values())]
    for code in files.TARGETS:
        lines.append(f"{NAMES[code]:<{width}}" + "".join(f"{mean(outcomes, code, c):11.1f}" for c in COLUMNS))
        chosen = ([outcome.scores[code, column].weight for outcome in outcomes] for column in COLUMNS)
        lines.append(f"{'  λ':<{width}}" + "".join(f"{_span(weights):>11}" for weights in chosen))
    means = (fmean(mean(outcomes, code, column) for code in files.TARGETS) for column in COLUMNS)
    lines.append(f"{'mean':<{width}}" + "".join(f"{value:11.1f}" for value in means))
    return "\n".join(lines)


def mean(outcomes: Iterable[Outcome], code: str, column: str) -> float:
    """Test accuracy in percent on a target language, averaged over seeds."""
    return fmean(outcome.scores[code, column].accuracy for outcome in outcomes)


def _span(weights: Iterable[float | None]) -> str:
    """One λ, or the smallest and the largest of several seeds."""
    different = sorted({weight for weight in weights if weight is not None})
    return "–".join(f"{weight:g}" for weight in dict.fromkeys(different[:1] + different[-1:])) or "–"


def curves(folders: Iterable[Path]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Target language → column → (λ, validation accuracy in percent), averaged over seeds."""
    values: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for folder in folders:
        for name in (SWEEP, CONTROL_SWEEP):
            for cell in _cells(folder, name, "dev"):
                if name == CONTROL_SWEEP and cell.variant == MODEL:
                    continue
                column = CONTROL if name == CONTROL_SWEEP else cell.variant
                values[_language(cell), column, _weight(cell) or 0.0].append(100 * cell.metrics["acc"])
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for (code, column, weight), accuracies in sorted(values.items()):
        found[code][column].append((weight, fmean(accuracies)))
    return found


def figure(found: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> "Figure":
    """Validation accuracy by λ: a panel a target language, a curve a variant, MODEL as a line."""
    panels = []
    for code in files.TARGETS:
        (_, model) = found[code][MODEL][0]
        drawn = tuple(
            plots.Curve(COLUMNS[column], style, tuple(found[code][column]))
            for style, column in enumerate((*CURVES, CONTROL))
        )
        panels.append(plots.Panel(NAMES[code], "validation accuracy (%)", drawn, {plots.MODEL: model}))
    return plots.draw(panels, plots.SCALING_FACTOR)
