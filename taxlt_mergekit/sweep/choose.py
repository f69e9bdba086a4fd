"""Which point of a sweep is chosen, on validation cells alone, and the recipe that says so."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import yaml

from taxlt_mergekit.cells.selection import best_parameters, column_of, complete, grid, in_mean
from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.sweep.points import at_point, own_parameters
from taxlt_mergekit.sweep.recipe import Recipe


def choose(
    recipes: Sequence[Recipe], cells: Iterable[Cell], per_language: bool = False
) -> dict[str, Parameters]:
    """The best point of each recipe, by path; recipes without a complete grid have none.

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
        best = best_parameters(complete(grid(inside or counted)))
        if best is not None:
            chosen[recipe.path] = own_parameters(recipe, best)
    return chosen


def mean_score(cells: Iterable[Cell], parameters: Parameters | None) -> float | None:
    """Unweighted mean over the languages of the paper's mean, 0..1; None where nothing was scored.

    Args:
        cells: of one variant on one split.
        parameters: the point; None takes all cells, as for MODEL.
    """
    scores = grid(cell for cell in cells if in_mean(cell.benchmark, column_of(cell)))
    rows = [row for point, row in scores.items() if parameters is None or point == parameters]
    values = [value for row in rows for value in row.values()]
    return fmean(values) if values else None


def write_chosen(recipe: Recipe, point: Parameters, output: Path, how: str) -> Path:
    """Write a recipe with its chosen point as an ordinary mergekit file, `<output>/best/<its name>`."""
    path = output / "best" / Path(recipe.path).name
    text = f"# {how}\n" + yaml.safe_dump(at_point(recipe, point), sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return path
