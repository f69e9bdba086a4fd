"""All cells below the folders that a user names: those of sweeps, and those of plain lm-eval results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taxlt_mergekit.cells.lm_eval import by_date, is_results_file, read_lm_eval
from taxlt_mergekit.cells.selection import canonical, column_of, documents_in, metric_of
from taxlt_mergekit.cells.store import CELLS_FILE, Cell, read_cells
from taxlt_mergekit.cells.unfinished import stopped_sweeps
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import hub_id

GET = "taxlt sweep RECIPE… --output {0} and lm_eval … --output_path {0} --log_samples write them"


@dataclass(frozen=True)
class Collected:
    """What was found.

    Attributes:
        cells: finished ones of whole tasks, one for each model, task and seed.
        parts: scores of a part of a task's documents (`--limit`), which compare with nothing.
        notes: what a reader should know of both, and of what was left out.
    """

    cells: tuple[Cell, ...]
    parts: tuple[Cell, ...]
    notes: tuple[str, ...]


def collect(
    paths: Iterable[Path], labels: Mapping[str, str] | None = None, base_model: str | None = None
) -> Collected:
    """Read results, folders recursively.

    Args:
        paths: folders, `cells.jsonl` files, or lm-eval's results files.
        labels: path of a model as lm-eval was given it, or of its results, -> the variant's name.
        base_model: θ₀ of lm-eval's results that do not tell it.

    Raises:
        UserError: a path without results, a foreign file, or a label that fits no model.
    """
    labels = labels or {}
    used: set[str] = set()

    def label(name: str, path: Path) -> str | None:
        folders = {name, *map(str, (path, *path.parents))} | {
            str(place.resolve()) for place in (Path(name), path, *path.parents)
        }
        for key, variant in labels.items():
            if key in folders or str(Path(key).resolve()) in folders:
                used.add(key)
                return variant
        return None

    cells: dict[str, Cell] = {}
    origin: dict[str, Path] = {}
    notes: list[str] = []
    for path in paths:
        for file in _result_files(path):
            notes += stopped_sweeps(file.parent) if file.name == CELLS_FILE else []
            found = read_cells(file.parent) if file.name == CELLS_FILE else read_lm_eval(file, label)
            cells |= {cell.key: cell for cell in found}
            origin |= dict.fromkeys((cell.key for cell in found), file)
    for key in labels:
        if key in used:
            continue
        raise UserError(
            f"--label {key}={labels[key]}: no results of lm_eval are of this model or in this folder"
        )
    named = _name_models(list(cells.values()), base_model)
    parts = [cell for cell in named if cell.is_part and cell.status == "ok"]
    whole, conflicts = _without_conflicts([cell for cell in named if not cell.is_part], origin)
    return Collected(tuple(whole), tuple(parts), (*notes, *conflicts, *_other_data(whole)))


def _result_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.name == CELLS_FILE or is_results_file(path):
            return [path]
        raise UserError(f"{path}: neither {CELLS_FILE} of a sweep nor results_<date>.json of lm_eval")
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; {GET.format(path)}")
    files = sorted(path.rglob(CELLS_FILE)) + sorted(
        filter(is_results_file, path.rglob("*.json")), key=by_date
    )
    if not files:
        raise UserError(
            f"{path}: no results below it, neither {CELLS_FILE} nor results_<date>.json of lm_eval; "
            f"{GET.format(path)}"
        )
    return files


def _name_models(cells: list[Cell], base_model: str | None) -> list[Cell]:
    """The catalog's id for a model of the paper however it was named; a θ₀ for cells that do not tell it."""
    ids = {cell.model: hub_id(cell.model) for cell in cells}
    known = {name for name in ids.values() if name}
    if "" in ids:
        ids[""] = hub_id(base_model or "") or (known.pop() if len(known) == 1 else "")
    return [cell.model_copy(update={"model": ids[cell.model]}) for cell in cells]


def _without_conflicts(cells: list[Cell], origin: Mapping[str, Path]) -> tuple[list[Cell], list[str]]:
    """One cell for each place in the tables: the one that was read last, with a note where scores differ."""
    places: dict[tuple, Cell] = {}
    failed: dict[tuple, Cell] = {}
    notes = []
    for cell in cells:
        parameters = canonical(cell.parameters)
        place = (cell.model, cell.benchmark, cell.variant, parameters, cell.split, column_of(cell), cell.seed)
        if cell.status == "failed":
            failed[place] = cell
            continue
        metric = metric_of(cell)
        if not 0 <= cell.metrics.get(metric, -1) <= 1:
            notes.append(
                f"Left out: {cell.variant} on {cell.task} ({origin[cell.key]}) has no score from 0 to 1"
            )
            continue
        earlier = places.get(place)
        if earlier and earlier.metrics[metric] != cell.metrics[metric]:
            notes.append(
                f"Two scores for {cell.variant} on {cell.task}: {100 * cell.metrics[metric]:.2f} from "
                f"{origin[cell.key]} is used, {100 * earlier.metrics[metric]:.2f} from "
                f"{origin[earlier.key]} is not"
            )
        elif earlier and earlier.documents and not cell.documents:
            continue
        places[place] = cell
        failed.pop(place, None)
    notes += [
        f"Failed and left out: {cell.variant} on {cell.task} ({origin[cell.key]}): {cell.reason}"
        for cell in failed.values()
    ]
    return list(places.values()), notes


def _other_data(cells: Sequence[Cell]) -> list[str]:
    """Notes on tasks whose scores are not all of the same documents: another version of the data."""
    found: dict[str, dict[int, set[str]]] = {}
    for cell in cells:
        count = documents_in(cell)
        if count is not None:
            found.setdefault(cell.task, {}).setdefault(count, set()).add(cell.variant)
    return [
        f"{task} was scored on different data: "
        + "; ".join(f"{count} documents ({', '.join(sorted(of))})" for count, of in sorted(versions.items()))
        + ". These scores do not compare; score all of them on one version of the data."
        for task, versions in found.items()
        if len(versions) > 1
    ]
