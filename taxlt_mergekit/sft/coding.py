"""How a sparse fine-tuning's file writes positions and differences; pure functions on arrays.

A position counts a tensor's entries with the first dimension fastest (column-major). The file keeps the
first position and from then on the steps between neighbours.
"""

from collections.abc import Sequence

import numpy as np


def positions_of_steps(steps: Sequence[int] | np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Positions of the changed entries in C order (last dimension fastest), in the file's order.

    Args:
        steps: the first position, then differences of successive ones; integers.
        size: of the tensor.

    Raises:
        ValueError: positions do not rise, or reach beyond the tensor.
    """
    steps = np.asarray(steps)
    if steps.ndim != 1 or (len(steps) and steps.dtype.kind not in "iu"):
        raise ValueError("index_steps must be a list of whole numbers")
    if len(steps) == 0:
        return np.empty(0, np.int64)
    steps = steps.astype(np.int64)
    if steps[0] < 0 or (steps[1:] <= 0).any():
        raise ValueError("its positions do not rise")
    count = int(np.prod(size, dtype=np.int64))
    positions = np.cumsum(steps)
    # A sum that ran over 64 bits was beyond them before.
    if positions.max() >= count or positions.min() < 0:
        raise ValueError(f"position {positions.max()} is beyond its {count} entries")
    return np.ravel_multi_index(np.unravel_index(positions, tuple(size), order="F"), tuple(size))


def steps_of_positions(positions: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The inverse: steps in the file's order, and the order in which the positions were taken.

    Args:
        positions: in C order, each once.
        size: of the tensor.

    Returns:
        Steps, int64, and for each the index into `positions`.
    """
    if len(positions) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    file = np.ravel_multi_index(np.unravel_index(positions, tuple(size)), tuple(size), order="F")
    order = np.argsort(file)
    return np.diff(file[order], prepend=0), order


def exact_differences(start: np.ndarray, end: np.ndarray) -> np.ndarray | None:
    """Differences whose sum with `start` is `end` to the last bit.

    In float32 where that can be. A difference of two float32 numbers has up to 53 bits when the end is much
    smaller than the start (0.1 to 0.001): then in float64, to be added in float64 and rounded.

    Args:
        start: float32.
        end: float32, of equal shape.

    Returns:
        float32 or float64 values; None where neither will do (a distance of more than 29 binary orders, and
        the sign of a zero).
    """
    for kind in (np.float32, np.float64):
        values = end.astype(kind) - start.astype(kind)
        if np.array_equal(add(start, values).view(np.int32), end.view(np.int32)):
            return values
    return None


def add(start: np.ndarray, values: np.ndarray) -> np.ndarray:
    """θ₀ + values, float32, computed in the precision of the values."""
    return (start.astype(values.dtype) + values).astype(np.float32)
