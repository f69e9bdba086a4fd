"""Which point of a sweep is chosen, on validation cells alone, and the recipe that says so."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import yaml

from taxlt_mergekit.cells.selection import (
    Grid,
    best_parameters,
    canonical,
    column_of,
    complete,
    grid,
    in_mean,
)
from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.paper.catalog import known_tasks
from taxlt_mergekit.sweep.points import at_point, own_parameters
from taxlt_mergekit.sweep.recipe import Recipe


def choose(
    recipes: Sequence[Recipe], cells: Iterable[Cell], per_language: bool = False
) -> dict[str, Parameters]:
    """The best point of each recipe, by path; recipes that took no part in the choice have none.

    Args:
        cells: validation cells of this sweep.
        per_language: choose for each recipe by itself, not on average over a benchmark's languages (the
            paper's protocol, section 3).
    """
    cells = [cell for cell in cells if cell.split == "dev"]
    chosen = {}
    for recipe in recipes:
        together = {recipe.path} if per_language else {r.path for r in recipes if r.group == recipe.group}
        counted = [cell for cell in cells if cell.recipe in together and cell.variant == recipe.variant]
        inside = [cell for cell in counted if in_mean(cell.benchmark, column_of(cell))]
        full = complete(grid(inside or counted))
        best = best_parameters(full)
        own = [cell for cell in counted if cell.recipe == recipe.path]
        if best is not None and _took_part(recipe, own, best, full):
            chosen[recipe.path] = own_parameters(recipe, best)
    return chosen


def _took_part(recipe: Recipe, own: Sequence[Cell], best: Parameters, full: Grid) -> bool:
    """Whether a recipe was scored on all its tasks at the best point, and counted in its average."""
    at_best = [cell for cell in own if cell.status == "ok" and canonical(cell.parameters) == best]
    averaged = {column for row in full.values() for column in row}
    return {cell.task for cell in at_best} >= set(recipe.tasks) and all(
        column_of(cell) in averaged for cell in at_best if in_mean(cell.benchmark, column_of(cell))
    )


def mean_score(cells: Iterable[Cell], parameters: Parameters | None, tasks: Iterable[str]) -> float | None:
    """Unweighted mean over the languages of the paper's mean, 0..1; None where one of them has no score.

    Args:
        cells: of one variant on one split.
        parameters: the point; None takes all cells, as for MODEL.
        tasks: those that the mean is over.
    """
    wanted = [task for task in tasks if in_mean(*known_tasks().get(task, (None, task))[:2])]
    found: dict[str, list[Cell]] = {task: [] for task in wanted}
    for cell in cells:
        if cell.task in found and parameters in (None, canonical(cell.parameters)):
            found[cell.task].append(cell)
    rows = [row for of_task in found.values() for row in grid(of_task).values()]
    return (
        fmean(value for row in rows for value in row.values()) if rows and len(rows) == len(found) else None
    )


def write_chosen(recipe: Recipe, point: Parameters, folder: Path, how: str) -> Path:
    """Write a recipe with its chosen point as an ordinary mergekit file of the same name."""
    path = folder / Path(recipe.path).name
    text = f"# {how}\n" + yaml.safe_dump(at_point(recipe, point), sort_keys=False, allow_unicode=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {one_line(error)}") from error
    return path
