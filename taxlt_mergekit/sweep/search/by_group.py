"""A search of λ by group of tensors, from the grid's choice on; its trials are cells like the grid's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from taxlt_mergekit.cells.choices import Choice
from taxlt_mergekit.cells.selection import canonical, in_mean
from taxlt_mergekit.cells.store import Cell, Groups, Parameters
from taxlt_mergekit.cells.unlabelled import Unlabelled
from taxlt_mergekit.criteria.names import BALANCE
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.layers import filters_of
from taxlt_mergekit.paper.variants import per_group
from taxlt_mergekit.sweep.choosing.criteria import Comparison, compare
from taxlt_mergekit.sweep.choosing.text import Text
from taxlt_mergekit.sweep.jobs import Job
from taxlt_mergekit.sweep.points import own_parameters
from taxlt_mergekit.sweep.recipe import Recipe
from taxlt_mergekit.sweep.request import Request
from taxlt_mergekit.sweep.run import Kept, Opened, Run, run_jobs, tensors_of
from taxlt_mergekit.sweep.search.sampler import Sampler, load_optuna


@dataclass
class Search:
    """The searches of a sweep, one for each set of recipes whose λ is chosen together.

    Attributes:
        recipes: those of the grid under names of their own, with their groups.
        kept: what trials gave so far.
    """

    recipes: Sequence[Recipe]
    asked: Request
    run: Run
    texts: Mapping[str, Text]
    kept: list[Kept] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many cells and predictions all trials have."""
        return self.asked.trials * sum(job.size for job in map(self._job, self.recipes))

    def trials(self, chosen: Mapping[str, Parameters], done: dict[str, Kept]) -> Iterator[tuple[Kept, bool]]:
        """Score trial after trial; yields as `run_jobs` does.

        Args:
            chosen: the grid's choice, by the path of its recipe; recipes without one are not searched.
        """
        starts = {_name(path): point.weight for path, point in chosen.items()}
        opened = Opened(map(self._job, self.recipes))
        sets = self._sets(starts)
        for number, together in enumerate(sets, start=1):
            first = starts[together[0].path]
            assert first is not None, "the grid has one λ a point"
            names = dict.fromkeys(group for _, group in together[0].groups)
            sampler = Sampler([*names], self.asked.values["weight"], first)
            for _ in range(self.asked.trials):
                point = Parameters(groups=Groups(**sampler.ask()))
                for kept, is_new in run_jobs(
                    [self._job(recipe, point) for recipe in together], self.run, done, opened
                ):
                    self.kept.append(kept)
                    yield kept, is_new
                sampler.tell(self._worth(together, point))
            later = {model for others in sets[number:] for recipe in others for model in recipe.inputs}
            for recipe in together:
                opened.close(recipe, later)

    def _sets(self, starts: Mapping[str, float | None]) -> list[list[Recipe]]:
        """Recipes that get one point together: those whose criterion's curve is one mean."""
        sets: dict[tuple, list[Recipe]] = {}
        for recipe in self.recipes:
            alone = self.asked.per_language or not in_mean(recipe.benchmark, recipe.language or "")
            if recipe.path in starts:
                sets.setdefault((recipe.group, recipe.path if alone else None), []).append(recipe)
        return list(sets.values())

    def _job(self, recipe: Recipe, point: Parameters | None = None) -> Job:
        text = self.texts.get(recipe.path)
        reads_predictions = self.asked.criterion == BALANCE and text is None
        return Job(recipe, (point,), recipe.tasks, text, reads_predictions)

    def _worth(self, together: Sequence[Recipe], point: Parameters) -> float | None:
        curve = self._compared(together).curves.get(self.asked.criterion, {}).get(together[0].path, {})
        return curve.get(canonical(own_parameters(together[0], point)))

    def _compared(self, recipes: Sequence[Recipe]) -> Comparison:
        cells = [kept for kept in self.kept if isinstance(kept, Cell)]
        unlabelled = [kept for kept in self.kept if isinstance(kept, Unlabelled)]
        no_grid: dict[str, tuple[Parameters, ...]] = {recipe.path: () for recipe in recipes}
        return compare(recipes, cells, unlabelled, no_grid, self.asked.per_language)

    def chosen(self) -> tuple[dict[str, Parameters], list[Choice]]:
        """The best trial of each recipe that has one, by its path, and the records of these choices."""
        compared = self._compared(self.recipes)
        points = compared.points(self.asked.criterion)
        choices = compared.choices(self.recipes, self.asked.seed)
        return {
            recipe.path: own_parameters(recipe, points[recipe.path])
            for recipe in self.recipes
            if recipe.path in points
        }, [choice for choice in choices if choice.criterion == self.asked.criterion]


def prepare_search(recipes: Sequence[Recipe], asked: Request, run: Run, texts: Mapping[str, Text]) -> Search:
    """Look at all that a search needs before anything is run.

    Raises:
        UserError: optuna is not installed, a recipe without a λ, or a model without layers to tell apart.
    """
    load_optuna()
    grouped = []
    for recipe in recipes:
        if "weight" not in recipe.varied:
            method = recipe.config.merge_method
            raise UserError(f"{recipe.path}: {method} has no weight; leave out --per-group")
        groups = filters_of(tensors_of(recipe, run))
        if len({group for _, group in groups}) < 2:
            raise UserError(
                f"{recipe.path}: its tensors are all of one group, {groups[0][1]}; leave out --per-group"
            )
        variant = per_group(recipe.variant)
        grouped.append(replace(recipe, path=_name(recipe.path), variant=variant, groups=groups))
    return Search(grouped, asked, run, {_name(path): text for path, text in texts.items()})


def _name(path: str) -> str:
    """`recipes/quy_plus_tgt.yml` → `recipes/quy_plus_tgt.per_group.yml`."""
    place = Path(path)
    return str(place.with_name(f"{place.stem}.per_group{place.suffix}"))
