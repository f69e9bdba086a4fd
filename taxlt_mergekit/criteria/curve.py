"""A criterion's value at every point of a grid, what is made of several, and the point that it chooses."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from taxlt_mergekit.cells.selection import best_parameters
from taxlt_mergekit.cells.store import Parameters

# Higher is better.
Curve: TypeAlias = dict[Parameters, float]

# At each point the probabilities (documents, classes) of the same documents, in the same order.
Predictions: TypeAlias = Mapping[Parameters, NDArray[np.float64]]


def point_of(curve: Curve) -> Parameters | None:
    """The point with the highest value; of equal ones that with the smaller λ, then the denser vector."""
    # What adding up in another order changes must not decide.
    return best_parameters({point: {"": round(value, 9)} for point, value in curve.items()})


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several curves, at the points that all of them have."""
    shared = [point for point in curves[0] if all(point in curve for curve in curves)] if curves else []
    return {point: fmean(curve[point] for curve in curves) for point in shared}


def sizes(point: Parameters) -> list[float]:
    """The factors that a point has, without their signs."""
    groups = point.groups.by_name.values() if point.groups else ()
    weights = (point.source_weight, point.target_weight, *groups)
    return [abs(weight) for weight in weights if weight is not None]
