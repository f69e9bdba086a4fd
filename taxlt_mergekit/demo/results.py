"""What a demo found: read from the results that the commands wrote, and checked."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from taxlt_mergekit.cells.lm_eval import read_lm_eval
from taxlt_mergekit.cells.store import Cell, read_cells
from taxlt_mergekit.demo import files, world
from taxlt_mergekit.demo.files import CONTROL_SWEEP, SWEEP
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.variants import MODEL, NAMES

CONTROL = "control"
# Column of the table → its title.
COLUMNS = NAMES | {CONTROL: CONTROL}


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
            scores[code, column] = Score(100 * swept[key].metrics["acc"], swept[key].parameters.weight)
        for column, name in ((MODEL, MODEL), ("plus_tgt", code)):
            _check_agreement(cells[column], _lm_eval(folder, name, code), f"{COLUMNS[column]} on {code}")
        examples[code] = _example(folder, code, cells[MODEL], cells["plus_tgt"])
    on_source = _lm_eval(folder, MODEL, files.SOURCE)
    examples[files.SOURCE] = _example(folder, files.SOURCE, on_source, None)
    return Outcome(seed, scores, 100 * on_source.metrics["acc"], examples)


def curves(folders: Iterable[Path]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Target language → column → (λ, validation accuracy in percent), averaged over seeds."""
    values: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for folder in folders:
        for name in (SWEEP, CONTROL_SWEEP):
            for cell in _cells(folder, name, "dev"):
                if name == CONTROL_SWEEP and cell.variant == MODEL:
                    continue
                column = CONTROL if name == CONTROL_SWEEP else cell.variant
                values[_language(cell), column, cell.parameters.weight or 0.0].append(
                    100 * cell.metrics["acc"]
                )
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for (code, column, weight), accuracies in sorted(values.items()):
        found[code][column].append((weight, fmean(accuracies)))
    return found


def _cells(folder: Path, name: str, split: Split) -> list[Cell]:
    return [cell for cell in read_cells(folder / name) if (cell.status, cell.split) == ("ok", split)]


def _language(cell: Cell) -> str:
    return cell.task.rsplit("_", 1)[-1]


def _lm_eval(folder: Path, name: str, code: str) -> Cell:
    """What lm_eval wrote of one model on one language."""
    for path in sorted((folder / files.SCORES / name).rglob("results_*.json"), reverse=True):
        for cell in read_lm_eval(path):
            if cell.task == files.task(code):
                return cell
    raise UserError(f"{folder / files.SCORES / name}: lm_eval wrote no score of {files.task(code)}")


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
