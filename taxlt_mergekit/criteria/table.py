"""The criteria that read predictions on documents without labels, by name."""

from collections.abc import Callable, Mapping

from taxlt_mergekit.criteria.balance import balance
from taxlt_mergekit.criteria.curve import Curve, Predictions
from taxlt_mergekit.criteria.names import BALANCE

OF_PREDICTIONS: Mapping[str, Callable[[Predictions], Curve]] = {BALANCE: balance}
