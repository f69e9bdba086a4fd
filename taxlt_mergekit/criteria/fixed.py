"""One λ for every language, without a look at any data."""

from collections.abc import Iterable

from taxlt_mergekit.criteria.curve import Curve, sizes

# Table 9's λ of +TGT for both benchmarks of languages that XLM-R base has not seen.
UNSEEN = 0.9


def fixed(points: Iterable, factor: float = UNSEEN) -> Curve:
    """How near each point is to a factor that was known before, such as table 9's.

    Args:
        points: `Parameters` of the grid.
        factor: λ of source and target.
    """
    return {point: -sum(abs(weight - factor) for weight in sizes(point)) for point in points}
