"""The points of a grid, scaling factors, densities and selections, and a recipe at one of them. Pure."""

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import yaml

from taxlt_mergekit.cells.store import Groups, Parameters
from taxlt_mergekit.errors import UserError

if TYPE_CHECKING:  # it imports mergekit, which takes seconds
    from taxlt_mergekit.sweep.recipe import Recipe

FACTORS = "0.1:1.0:0.1"  # section 3


def parse_values(text: str, option: str) -> list[float]:
    """Numbers of an option: `0.1:1.0:0.1` (start, end included, step), or a list `0.05,0.2,0.5`.

    Raises:
        UserError: not numbers, not finite, or an empty range.
    """
    try:
        if ":" in text:
            start, end, step = (Decimal(part) for part in text.split(":"))
            if not all(part.is_finite() for part in (start, end, step)) or step == 0:
                raise ValueError
            count = math.floor((end - start) / step) + 1
            values = [float(start + i * step) for i in range(count)]
        else:
            values = [float(part) for part in text.split(",") if part.strip()]
    except (InvalidOperation, ValueError):
        raise UserError(
            f"{option} {text}: not numbers; give start:end:step, such as 0.1:1.0:0.1, "
            "or a list, such as 0.2,0.5"
        ) from None
    if not values:
        raise UserError(f"{option} {text}: holds no value")
    if not all(map(math.isfinite, values)):
        raise UserError(f"{option} {text}: every value must be finite")
    return values


def grid_points(
    roles: Sequence[str],
    *,
    weight: Sequence[float] | None = None,
    source_weight: Sequence[float] | None = None,
    target_weight: Sequence[float] | None = None,
    density: Sequence[float] | None = None,
    select: Sequence[str] = (),
    scope: str | None = None,
    varied: Collection[str] = ("weight", "density", "select", "scope"),
) -> list[Parameters]:
    """All combinations for a recipe that has these roles.

    Args:
        roles: the recipe's roles besides `task`; `source`, `target` or both.
        weight: λ of source and target together, as in the paper.
        source_weight: λ of the source alone, in place of `weight`.
        target_weight: λ of the target alone, in place of `weight`.
        density: shares of the language vectors that are kept; None leaves the recipe's.
        select: `top`, `bottom` or both.
        scope: `global` or `tensor`.
        varied: those that the recipe's method has; the others are left as they are.

    Returns:
        Points with null for what is left as the recipe has it.
    """
    unchanged: list[float | None] = [None]
    if "weight" not in varied:
        weight = source_weight = target_weight = None
    density = density if "density" in varied else None
    if weight is not None:
        pairs: Iterable[tuple] = [(value, value) for value in weight]
    else:
        pairs = itertools.product(source_weight or unchanged, target_weight or unchanged)
    points = []
    for (source, target), share in itertools.product(pairs, density or unchanged):
        selects = share is not None and share != 1 and "select" in varied
        for choice in select or ["top"] if selects else [None]:
            points.append(
                Parameters(
                    source_weight=source if "source" in roles else None,
                    target_weight=target if "target" in roles else None,
                    density=share,
                    select=choice,  # type: ignore[arg-type]
                    scope=(scope or "global") if selects else None,  # type: ignore[arg-type]
                )
            )
    return list(dict.fromkeys(points))


def own_parameters(recipe: "Recipe", point: Parameters) -> Parameters:
    """A point with what it leaves open filled in from the recipe, where the recipe has one number."""
    own = recipe.parameters
    density = own.density if point.density is None else point.density
    sparse = density is not None and density < 1
    source, target = point.source_weight, point.target_weight
    if point.groups is None:
        source = own.source_weight if source is None else source
        target = own.target_weight if target is None else target
    return Parameters(
        source_weight=source,
        target_weight=target,
        groups=point.groups,
        density=density,
        select=(point.select or own.select) if sparse else None,
        scope=(point.scope or own.scope) if sparse else None,
    )


def at_point(recipe: "Recipe", point: Parameters) -> dict[str, Any]:
    """The recipe's document with a point's parameters written into it."""
    document = yaml.safe_load(recipe.text)
    shared = document.get("parameters") or {}
    for entry in document["models"]:
        settings = entry.setdefault("parameters", {})
        role = settings.get("role", shared.get("role"))
        if role in ("source", "target"):
            weight = point.source_weight if role == "source" else point.target_weight
            if point.groups is not None:
                settings["weight"] = _filtered(point.groups, recipe.groups)
            elif weight is not None:
                settings["weight"] = weight
            if point.density is not None:
                settings.pop("density", None)
                if point.density < 1 or "density" in shared:
                    settings["density"] = point.density
    if point.select is not None and point.density is not None and point.density < 1:
        document["parameters"] = shared | {"select": point.select, "scope": point.scope}
    return document


def _filtered(groups: Groups, filters: Sequence[tuple[str | None, str]]) -> list[dict[str, Any]]:
    """A recipe's conditional `weight`."""
    by_name = groups.by_name
    return [
        {"value": by_name[group]} if filter_ is None else {"filter": filter_, "value": by_name[group]}
        for filter_, group in filters
    ]
