"""Positions as steps, and differences that restore to the last bit, against plain loops."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.sft.coding import add, exact_differences, positions_of_steps, steps_of_positions

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def column_major(size):
    """Every index of a tensor, the first dimension fastest."""
    ranges = [range(length) for length in reversed(size)]
    return [tuple(reversed(index)) for index in itertools.product(*ranges)]


@given(SIZES, st.data())
def test_steps_mean_what_a_loop_over_the_first_dimension_counts(size, data):
    order = column_major(size)
    chosen = data.draw(st.sets(st.integers(0, len(order) - 1)).map(sorted))
    steps = [position - before for position, before in zip(chosen, [0, *chosen], strict=False)]
    array = np.zeros(size, np.int64)
    array.reshape(-1)[positions_of_steps(steps, size)] = range(1, len(chosen) + 1)
    expected = np.zeros(size, np.int64)
    for number, position in enumerate(chosen, 1):
        expected[order[position]] = number
    assert np.array_equal(array, expected)
    positions = np.flatnonzero(array)
    found, taken = steps_of_positions(positions, size)
    assert found.tolist() == steps
    assert np.array_equal(positions[taken], positions_of_steps(steps, size))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([-1, 2], "do not rise"),
        ([3, 0], "do not rise"),
        ([3, -2], "do not rise"),
        ([0, 6], "position 6 is beyond its 6 entries"),
        ([1, 2**62, 2**62], "beyond"),
        ([0.5], "whole numbers"),
    ],
)
def test_steps_that_fit_no_tensor_are_refused(steps, said):
    with pytest.raises(ValueError, match=said):
        positions_of_steps(steps, (2, 3))


@given(st.lists(st.tuples(*[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 2), min_size=1))
def test_a_difference_restores_every_bit_or_is_none(pairs):
    start, end = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    with np.errstate(over="ignore", invalid="ignore"):
        values = exact_differences(start, end)
        if values is not None:
            assert np.array_equal(add(start, values).view(np.int32), end.view(np.int32))
    near = (start * np.float32(1.25)).astype(np.float32)
    if np.isfinite(near).all() and (np.abs(start) > 1e-30).all():
        assert exact_differences(start, near).dtype == np.float32


def test_a_difference_that_float32_cannot_hold_is_in_float64():
    start, end = np.float32([0.1, 1.0]), np.float32([0.001, 2.0])
    assert exact_differences(start, end).dtype == np.float64
    assert exact_differences(np.float32([1.0]), np.float32([1e-20])) is None
