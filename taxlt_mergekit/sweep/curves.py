"""What `taxlt sweep` shows of its criteria: what each chose, the asked one's curve, and warnings."""

from collections.abc import Sequence
from pathlib import Path

from taxlt_mergekit.criteria.curve import Curve
from taxlt_mergekit.criteria.names import SUMMARIES
from taxlt_mergekit.sweep.choosing.criteria import Comparison, warnings
from taxlt_mergekit.sweep.console import console, words
from taxlt_mergekit.sweep.recipe import Recipe


def show_criteria(recipes: Sequence[Recipe], comparison: Comparison, criterion: str) -> None:
    """Print a line for each criterion and recipe, with a mark at the one that chose, and its curve."""
    out = console()
    out.print()
    for recipe in recipes:
        name = Path(recipe.path).name
        read = f" (predictions on {comparison.documents[recipe.path]})" * (
            recipe.path in comparison.documents
        )
        out.print(f"{name}: λ by criterion{read}")
        for other in comparison.curves:
            point = comparison.points(other).get(recipe.path)
            if point is not None:
                mark = "→" if other == criterion else " "
                out.print(f" {mark} {other:<10} {words(point):<32} {SUMMARIES[other]}")
        if curve := comparison.curves.get(criterion, {}).get(recipe.path):
            out.print(f"   {criterion} by point: {_curve(curve)}")
    for recipe in recipes:
        for text in warnings(comparison, recipe):
            out.print(f"Warning: {text}")


def _curve(curve: Curve) -> str:
    return " · ".join(f"{words(point)}: {value:.3f}" for point, value in curve.items())
