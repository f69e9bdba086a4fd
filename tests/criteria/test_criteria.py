"""The criteria as functions: held against plain loops, and what must not change a choice."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.cells.unlabelled import normalised
from taxlt_mergekit.criteria.balance import balance
from taxlt_mergekit.criteria.curve import point_of
from taxlt_mergekit.criteria.fixed import fixed
from taxlt_mergekit.criteria.labels import labels, others
from taxlt_mergekit.criteria.table import OF_PREDICTIONS


def at(weight: float) -> Parameters:
    return Parameters(target_weight=weight)


@st.composite
def grids(draw):
    """Predictions at 2 to 5 points on the same documents."""
    points, documents, classes = draw(st.integers(2, 5)), draw(st.integers(1, 8)), draw(st.integers(2, 4))
    logits = np.random.default_rng(draw(st.integers(0, 10_000))).normal(size=(points, documents, classes)) * 3
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return {at(round(0.1 * (i + 1), 1)): shares[i] for i in range(points)}


@given(grids())
@settings(max_examples=50, deadline=None)
def test_balance_is_the_entropy_of_the_mean_prediction(grid):
    for point, value in balance(grid).items():
        rows = grid[point].tolist()
        shares = [fmean(row[k] for row in rows) for k in range(len(rows[0]))]
        assert value == pytest.approx(-sum(p * math.log(p) for p in shares))


@given(grids(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_of_documents_classes_and_points_changes_nothing(grid, random):
    documents, classes = next(iter(grid.values())).shape
    rows, columns = random.sample(range(documents), documents), random.sample(range(classes), classes)
    points = random.sample(list(grid), len(grid))
    shuffled = {point: grid[point][rows][:, columns] for point in points}
    for name, criterion in OF_PREDICTIONS.items():
        assert point_of(criterion(grid)) == point_of(criterion(shuffled)), name


def test_one_class_for_all_loses():
    even = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    collapsed = np.eye(3)[[0] * 6]
    assert point_of(balance({at(0.5): even, at(0.1): collapsed})) == at(0.5)


def test_others_do_not_read_the_language_itself():
    scores = {at(0.1): {"mad": 0.9, "sun": 0.2, "jav": 0.3}, at(0.2): {"mad": 0.1, "sun": 0.4, "jav": 0.3}}
    assert point_of(labels(scores)) == at(0.1)
    assert point_of(others(scores, "mad")) == at(0.2)
    changed = {point: row | {"mad": 1 - row["mad"]} for point, row in scores.items()}
    assert others(changed, "mad") == others(scores, "mad")


def test_fixed_takes_the_nearest_point_and_the_smaller_of_two():
    assert point_of(fixed([at(0.1), at(0.8), at(1.0)], 0.9)) == at(0.8)
    assert point_of(fixed([at(0.1), at(0.85), at(1.0)], 0.9)) == at(0.85)
    assert point_of({}) is None


@given(st.lists(st.floats(-500, 0), min_size=2, max_size=5))
def test_likelihoods_of_choices_become_probabilities(scores):
    assert sum(map(math.exp, normalised(tuple(scores)))) == pytest.approx(1)
