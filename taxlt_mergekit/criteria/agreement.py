"""By how little a model's predictions change from one point of the grid to the next."""

from collections.abc import Collection, Iterator

import numpy as np

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.criteria.curve import Curve, Predictions, predicted

_NUMBERS = ("source_weight", "target_weight", "density")


def agreement(predictions: Predictions) -> Curve:
    """The share of documents with the same prediction at neighbouring points, averaged over the neighbours.

    The stability principle of choosing a model without labels (Lange et al. 2004, *Stability-based validation
    of clustering solutions*): what is right should not hang on a small step. Neighbours are a point's nearest
    in one number, all else equal; where source and target share their λ, it is one number. A point without
    neighbours has no value.
    """
    classes = {point: predicted(probabilities) for point, probabilities in predictions.items()}
    curve = {}
    for point in predictions:
        near = list(neighbours(point, predictions))
        if near:
            curve[point] = float(np.mean([(classes[point] == classes[other]).mean() for other in near]))
    return curve


def neighbours(point: Parameters, points: Collection[Parameters]) -> Iterator[Parameters]:
    """The nearest points below and above in each number, where nothing else differs."""
    together = point.source_weight == point.target_weight
    for name in _NUMBERS:
        if together and name == "source_weight":
            continue
        moved = {"source_weight", "target_weight"} if together and name == "target_weight" else {name}
        here = getattr(point, name)
        if here is None:
            continue
        line = {
            getattr(other, name): other
            for other in points
            if other != point
            and getattr(other, name) is not None
            and other.model_dump(exclude=moved) == point.model_dump(exclude=moved)
            and (not together or len(moved) == 1 or other.source_weight == other.target_weight)
        }
        below = [value for value in line if value < here]
        above = [value for value in line if value > here]
        yield from ([line[max(below)]] if below else [])
        yield from ([line[min(above)]] if above else [])
