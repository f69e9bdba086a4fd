"""Every criterion that can be computed from what a sweep has, and what each chooses for each recipe."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from taxlt_mergekit.cells.choices import Choice, Rated
from taxlt_mergekit.cells.selection import Grid, canonical, column_of, grid, in_mean
from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.cells.unlabelled import Unlabelled
from taxlt_mergekit.criteria.curve import Curve, Predictions, mean_curve, point_of
from taxlt_mergekit.criteria.fixed import UNSEEN, fixed
from taxlt_mergekit.criteria.labels import labels, others
from taxlt_mergekit.criteria.names import FIXED, LABELS, OTHERS
from taxlt_mergekit.criteria.table import OF_PREDICTIONS
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import size_of
from taxlt_mergekit.paper.tables import printed_factor
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.sweep.points import own_parameters
from taxlt_mergekit.sweep.recipe import Recipe

# The largest difference between criteria, in λ, and the largest share of one class, that raise no eyebrow.
DISAGREEMENT, ONE_CLASS = 0.3, 0.9


@dataclass(frozen=True)
class Comparison:
    """The curves of all criteria.

    Attributes:
        curves: criterion -> the recipe's path -> its curve.
        predictions: the recipe's path -> what was predicted at each point.
        documents: the recipe's path -> where the documents come from.
    """

    curves: Mapping[str, Mapping[str, Curve]]
    predictions: Mapping[str, Sequence[Unlabelled]]
    documents: Mapping[str, str]

    def points(self, criterion: str) -> Mapping[str, Parameters]:
        """The recipe's path -> the chosen point, with `canonical` parameters."""
        return self._chosen.get(criterion, {})

    @cached_property
    def _chosen(self) -> dict[str, dict[str, Parameters]]:
        return {
            criterion: {
                path: point for path, curve in by_path.items() if (point := point_of(curve)) is not None
            }
            for criterion, by_path in self.curves.items()
        }

    def choices(self, recipes: Iterable[Recipe], seed: int | None) -> list[Choice]:
        """A record of each choice."""
        return [
            Choice(
                key=_key(recipe, criterion, seed),
                recipe=recipe.path,
                benchmark=recipe.benchmark,
                language=recipe.language,
                variant=recipe.variant,
                model=str(recipe.config.base_model or ""),
                seed=seed,
                criterion=criterion,
                parameters=self.points(criterion)[recipe.path],
                curve=tuple(
                    Rated(parameters=point, value=round(value, 6))
                    for point, value in self.curves[criterion][recipe.path].items()
                ),
                documents=self.documents.get(recipe.path) if criterion in OF_PREDICTIONS else None,
            )
            for criterion in self.curves
            for recipe in recipes
            if recipe.path in self.points(criterion)
        ]


def compare(
    recipes: Sequence[Recipe],
    cells: Iterable[Cell],
    unlabelled: Iterable[Unlabelled],
    points: Mapping[str, Sequence[Parameters]],
    per_language: bool = False,
) -> Comparison:
    """The curves of every criterion, for every recipe that has what it reads.

    Args:
        cells: validation cells; read by `labels` and `others` alone.
        unlabelled: predictions; of a recipe with text, those on the text.
        points: the recipe's path -> its grid.
        per_language: a curve for each recipe by itself, not the mean over a benchmark's languages. `others`
            is always one for each.
    """
    scored = [cell for cell in cells if cell.split == "dev" and cell.variant != MODEL]
    predicted: dict[str, list[Unlabelled]] = {}
    for line in unlabelled:
        if line.variant != MODEL and line.status == "ok" and line.log_probabilities:
            predicted.setdefault(line.recipe, []).append(line)
    own: dict[str, dict[str, Curve]] = {
        LABELS: {},
        FIXED: {},
        OTHERS: {},
        **{name: {} for name in OF_PREDICTIONS},
    }
    documents = {}
    for recipe in recipes:
        here = [canonical(own_parameters(recipe, point)) for point in points[recipe.path]]
        own[FIXED][recipe.path] = fixed(here, _factor(recipe))
        paths = {r.path for r in recipes if r.group == recipe.group}
        scores = grid(cell for cell in scored if cell.recipe == recipe.path)
        if scores:
            own[LABELS][recipe.path] = labels(scores)
        elsewhere = _mean_of_others(recipe, [cell for cell in scored if cell.recipe in paths])
        if elsewhere:
            own[OTHERS][recipe.path] = elsewhere
        lines = predicted.get(recipe.path, [])
        for name, criterion in OF_PREDICTIONS.items():
            curves = [criterion(_probabilities(lines, task)) for task in dict.fromkeys(x.task for x in lines)]
            if curves and (curve := mean_curve(curves)):
                own[name][recipe.path] = curve
        if lines:
            documents[recipe.path] = ", ".join(dict.fromkeys(line.task for line in lines))
    curves_of = {
        name: by_path if per_language or name == OTHERS else _together(recipes, by_path)
        for name, by_path in own.items()
        if by_path
    }
    return Comparison(curves_of, predicted, documents)


def require(comparison: Comparison, criterion: str, recipes: Iterable[Recipe]) -> None:
    """Refuse a criterion that has nothing to go by.

    Raises:
        UserError: names the recipe and what would be right.
    """
    for recipe in recipes:
        if recipe.path not in comparison.curves.get(criterion, {}):
            hint = {
                OTHERS: "sweep recipes of other languages, with labels, together with it",
                LABELS: "no point of it was scored",
            }.get(criterion, "give --text FILE, or --tasks of classes; and more than one λ")
            raise UserError(f"{recipe.path}: --select-by {criterion} has nothing to go by: {hint}")


def warnings(comparison: Comparison, recipe: Recipe) -> list[str]:
    """What should make a user look twice at a choice without labels."""
    found = []
    chosen = {
        name: point
        for name in comparison.curves
        if name != LABELS and (point := comparison.points(name).get(recipe.path)) is not None
    }
    for attribute in ("target_weight", "source_weight"):
        factors = {n: w for n, p in chosen.items() if (w := getattr(p, attribute)) is not None}
        if factors and max(factors.values()) - min(factors.values()) > DISAGREEMENT + 1e-9:
            listed = ", ".join(f"{name} {weight:g}" for name, weight in factors.items())
            found.append(f"{recipe.path}: the criteria disagree by more than {DISAGREEMENT:g}: λ {listed}")
            break
    collapsed = [
        line.parameters
        for line in comparison.predictions.get(recipe.path, ())
        if max(line.shares) > ONE_CLASS
    ]
    if collapsed:
        weights = (p.source_weight if p.target_weight is None else p.target_weight for p in collapsed)
        listed = ", ".join(dict.fromkeys(f"{weight:g}" for weight in weights if weight is not None))
        found.append(
            f"{recipe.path}: one class is predicted for more than {ONE_CLASS:.0%} of the documents at "
            f"λ {listed}"
        )
    return found


def _factor(recipe: Recipe) -> float:
    """Table 9's λ, for the paper's models and benchmarks."""
    size = size_of(str(recipe.config.base_model or ""))
    figure = printed_factor(recipe.benchmark, size, recipe.variant) if recipe.benchmark and size else None
    return figure.value if figure else UNSEEN


def _mean_of_others(recipe: Recipe, of_group: Sequence[Cell]) -> Curve:
    mine = {column_of(cell) for cell in of_group if cell.recipe == recipe.path} | {recipe.language or ""}
    kept = [
        cell for cell in of_group if column_of(cell) not in mine and in_mean(cell.benchmark, column_of(cell))
    ]
    scores: Grid = grid(kept)
    return others(scores, recipe.language or "") if scores else {}


def _probabilities(lines: Sequence[Unlabelled], task: str) -> Predictions:
    return {
        canonical(line.parameters): np.exp(np.array(line.log_probabilities, dtype=float))
        for line in lines
        if line.task == task
    }


def _together(recipes: Sequence[Recipe], curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The mean over a group's recipes, for each of them; those outside the paper's mean by themselves."""
    together = {}
    for recipe in recipes:
        if recipe.path not in curves:
            continue
        members = [r for r in recipes if r.group == recipe.group and r.path in curves]
        inside = [r for r in members if in_mean(r.benchmark, r.language or "")]
        of_mean = inside if recipe in inside else [recipe]
        together[recipe.path] = mean_curve([curves[r.path] for r in of_mean])
    return together


def _key(recipe: Recipe, criterion: str, seed: int | None) -> str:
    parts = (recipe.path, str(recipe.config.base_model or ""), recipe.variant, str(seed), criterion)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
