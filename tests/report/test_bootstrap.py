"""The paired bootstrap against scikit-learn on explicit resamples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from taxlt_mergekit.cells.store import Documents
from taxlt_mergekit.report import bootstrap

SCIKIT = {
    "acc": accuracy_score,
    "f1_macro": lambda target, prediction: f1_score(target, prediction, average="macro", zero_division=0),
}


def random_documents(rng: np.random.Generator, target: np.ndarray, right: float) -> Documents:
    guess = rng.integers(3, size=len(target))
    prediction = np.where(rng.random(len(target)) < right, target, guess)
    return Documents(target=tuple(target.tolist()), prediction=tuple(prediction.tolist()))


@given(
    labels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    metric=st.sampled_from(["acc", "f1_macro"]),
)
def test_scores_are_scikit_learns(labels, metric):
    target, prediction = zip(*labels, strict=True)
    documents = Documents(target=target, prediction=prediction)
    assert bootstrap.score(documents, metric) == pytest.approx(SCIKIT[metric](target, prediction))


@pytest.mark.parametrize("metric", ["acc", "f1_macro"])
def test_draws_are_scikit_learns_on_the_explicit_resamples(metric, monkeypatch):
    """Every weighted draw is repeated as a list of documents and scored by scikit-learn."""
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=25)
    model, other = random_documents(rng, target, 0.2), random_documents(rng, target, 0.7)
    drawn = []
    draw = bootstrap.document_weights

    def recorded(*arguments):
        drawn.append(draw(*arguments))
        return drawn[-1]

    monkeypatch.setattr(bootstrap, "document_weights", recorded)
    draws = bootstrap.resampled_differences(
        {"quy": {None: model}}, {"plus_tgt": {"quy": {None: other}}}, metric, 200, seed=1
    )["plus_tgt"]["quy"]
    (weights,) = drawn
    assert weights.shape == (200, 25) and (weights.sum(axis=1) == 25).all()
    for counts, difference in zip(weights, draws, strict=True):
        rows = np.repeat(np.arange(25), counts.astype(int))
        expected = SCIKIT[metric](target[rows], np.array(other.prediction)[rows]) - SCIKIT[metric](
            target[rows], np.array(model.prediction)[rows]
        )
        assert difference == pytest.approx(expected, abs=1e-12)


def test_the_interval_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=2000)
    model, other = random_documents(rng, target, 0.3), random_documents(rng, target, 0.5)
    draws = bootstrap.resampled_differences(
        {"quy": {None: model}}, {"plus_tgt": {"quy": {None: other}}}, "acc", 5000, seed=0
    )["plus_tgt"]["quy"]
    low, high = bootstrap.interval(draws)
    gain = (np.array(other.prediction) == target).astype(float) - (np.array(model.prediction) == target)
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    assert low == pytest.approx(gain.mean() - half, abs=0.002)
    assert high == pytest.approx(gain.mean() + half, abs=0.002)


def test_the_same_seed_gives_the_same_draws_and_another_one_others():
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=50)
    runs = [{"quy": {None: random_documents(rng, target, right)}} for right in (0.2, 0.6)]

    def draws(seed, resamples=1500):
        return bootstrap.resampled_differences(runs[0], {"x": runs[1]}, "acc", resamples, seed)["x"]["quy"]

    assert (draws(3) == draws(3)).all()
    assert (draws(3) != draws(4)).any()
    assert draws(3).shape == (1500,)


def test_equal_models_differ_by_nothing():
    rng = np.random.default_rng(0)
    runs = {"quy": {None: random_documents(rng, rng.integers(3, size=40), 0.5)}}
    assert (bootstrap.resampled_differences(runs, {"x": runs}, "f1_macro", 100, 0)["x"]["quy"] == 0).all()


def test_translations_of_one_another_are_drawn_together():
    """With the same targets and predictions in two languages, the mean is as uncertain as one of them."""
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=300)
    model, other = random_documents(rng, target, 0.3), random_documents(rng, target, 0.5)
    baseline = {"quy": {None: model}, "gn": {None: model}}
    draws = bootstrap.resampled_differences(
        baseline, {"x": {"quy": {None: other}, "gn": {None: other}}}, "acc", 500, 0
    )["x"]
    assert (draws["quy"] == draws["gn"]).all()


@pytest.mark.parametrize("same_seeds", [True, False])
def test_seeds_are_drawn_too_and_paired_where_they_are_the_same(same_seeds):
    """The seeds' scores are far apart, and the gain is the same for each: pairing takes the spread away."""
    target = (0, 1) * 50
    predictions = {1: (0, 1) * 25 + (0, 0) * 25, 2: (0, 0) * 50}
    model = {seed: Documents(target=target, prediction=labels) for seed, labels in predictions.items()}
    other = {seed if same_seeds else seed + 10: documents for seed, documents in model.items()}
    draws = bootstrap.resampled_differences({"quy": model}, {"x": {"quy": other}}, "acc", 500, 0)["x"]["quy"]
    assert draws.mean() == pytest.approx(0, abs=0.03)
    assert (draws.std() == 0) == same_seeds


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_an_interval_is_ordered_and_holds_the_middle(seed):
    draws = np.random.default_rng(seed).normal(size=400)
    low, high = bootstrap.interval(draws)
    assert low <= np.median(draws) <= high
