"""What a sweep scores: every point on validation tasks, then the chosen ones on test tasks. Pure."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.sweep.choosing.text import Text
from taxlt_mergekit.sweep.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """One recipe with the points and tasks it is to be scored at.

    Attributes:
        points: None is MODEL.
        text: documents without labels, whose predictions are kept.
        keep_predictions: keep those on the tasks too.
    """

    recipe: Recipe
    points: tuple[Parameters | None, ...]
    tasks: tuple[str, ...]
    text: Text | None = None
    keep_predictions: bool = False

    @property
    def size(self) -> int:
        """How many cells it has, and predictions on its text."""
        return len(self.points) * (len(self.tasks) + (self.text is not None))


def search_jobs(
    recipes: Iterable[Recipe],
    points: Callable[[Recipe], Sequence[Parameters]],
    texts: Mapping[str, Text] | None = None,
    keep_predictions: bool = False,
) -> Iterator[Job]:
    """MODEL once for each task model and validation task, and every recipe at every point.

    Args:
        texts: a recipe's path -> documents of its language without labels.
        keep_predictions: on the tasks' documents, for criteria that read no labels.
    """
    seen: set[tuple] = set()
    for recipe in recipes:
        yield from _model_job(recipe, recipe.tasks, seen)
        text = (texts or {}).get(recipe.path)
        yield Job(recipe, tuple(points(recipe)), recipe.tasks, text, keep_predictions)


def test_jobs(recipes: Iterable[Recipe], chosen: Mapping[str, Parameters]) -> Iterator[Job]:
    """MODEL once for each task model and test task, and every recipe at its chosen point, by path."""
    seen: set[tuple] = set()
    for recipe in recipes:
        yield from _model_job(recipe, recipe.test_tasks, seen)
        if recipe.path in chosen:
            yield Job(recipe, (chosen[recipe.path],), recipe.test_tasks)


def name_of_sweep(search: Iterable[Job], limit: int | None, seed: int | None, trials: int = 0) -> str:
    """The same for sweeps of the same cells, another for others: eight hexadecimal digits.

    Args:
        trials: how many points a search tries after the grid.
    """
    parts = sorted(
        (job.recipe.path, repr(job.points), job.tasks, *([job.text.name] if job.text else []))
        for job in search
    )
    whole = (parts, limit, seed, *([trials] if trials else []))
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:8]


def _model_job(recipe: Recipe, tasks: Sequence[str], seen: set[tuple]) -> Iterator[Job]:
    """MODEL on those tasks that no recipe of this task model had before; adds them to `seen`."""
    fresh = tuple(task for task in tasks if (recipe.start, task) not in seen)
    seen |= {(recipe.start, task) for task in fresh}
    if fresh:
        yield Job(recipe, (None,), fresh)
