"""Paired bootstrap of the difference between two models that were scored on the same documents."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taxlt_mergekit.cells.store import Documents

Array = NDArray[np.float64]

# language -> training seed -> labels of every document
Runs = Mapping[str, Mapping[int | None, Documents]]

# (name, language), the name None for the baseline
Place = tuple[str | None, str]
Run = tuple[tuple[Place, int | None], Documents]

# Resamples that are drawn at a time: 1000 × 5010 documents of XNLI are 20 MB.
BLOCK = 1000


def accuracy(confusion: Array) -> Array:
    """Share of documents on the diagonal.

    Args:
        confusion: (…, K, K), number of documents by target (rows) and prediction (columns).

    Returns:
        (…), 0..1.
    """
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def macro_f1(confusion: Array) -> Array:
    """Unweighted mean of the classes' F1, over the classes that occur as a target or as a prediction.

    The same number as scikit-learn's ``f1_score(average="macro")``.

    Args:
        confusion: (…, K, K), number of documents by target (rows) and prediction (columns).

    Returns:
        (…), 0..1.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    either = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    f1 = np.divide(2 * hits, either, out=np.zeros_like(either), where=either > 0)
    return f1.sum(axis=-1) / (either > 0).sum(axis=-1)


METRICS: dict[str, Callable[[Array], Array]] = {"acc": accuracy, "f1_macro": macro_f1}


def one_hot_confusion(documents: Documents, labels: int) -> NDArray[np.float32]:
    """(documents, labels²): each document's one entry in the flattened confusion matrix."""
    cell = np.asarray(documents.target) * labels + np.asarray(documents.prediction)
    return (cell[:, None] == np.arange(labels**2)).astype(np.float32)


def score(documents: Documents, metric: str) -> float:
    """The metric on the documents as they are, 0..1."""
    labels = _labels(documents)
    confusion = one_hot_confusion(documents, labels).sum(axis=0, dtype=np.float64)
    return float(METRICS[metric](confusion.reshape(labels, labels)))


def resampled_differences(
    baseline: Runs, others: Mapping[str, Runs], metric: str, resamples: int, seed: int
) -> dict[str, dict[str, Array]]:
    """Bootstrap draws of score(other) − score(baseline), paired by document.

    A draw takes as many documents as there are, with replacement, the same ones for every model. Languages
    whose targets are the same list are translations of one another (XNLI, NusaX): their documents are not
    independent, so they get the same draw. With several training seeds a draw also takes seeds with
    replacement, the same ones for models that were trained with the same seeds, and averages over them.

    Args:
        baseline, others: labels by language and training seed; languages that both have are compared.
        metric: `acc` or `f1_macro`.
        resamples: number of draws R.
        seed: of the random numbers; the same seed gives the same draws.

    Returns:
        name in `others` -> language -> (R,) differences, −1..1.
    """
    rng = np.random.default_rng(seed)
    every: dict[Place, Mapping[int | None, Documents]] = {
        (name, code): runs
        for name, by_language in [(None, baseline), *others.items()]
        for code, runs in by_language.items()
    }
    by_target = _by_target(every)
    blocks = []
    for start in range(0, resamples, BLOCK):
        scores = _resampled_scores(rng, min(BLOCK, resamples - start), by_target, METRICS[metric])
        blocks.append(_averaged_over_seeds(rng, every, scores))
    return {
        name: {
            code: np.concatenate([block[name, code] - block[None, code] for block in blocks])
            for code in by_language
            if code in baseline
        }
        for name, by_language in others.items()
    }


def _by_target(every: Mapping[Place, Mapping[int | None, Documents]]) -> dict[tuple[int, ...], list[Run]]:
    groups: dict[tuple[int, ...], list[Run]] = {}
    for place, runs in every.items():
        for training_seed, documents in runs.items():
            groups.setdefault(documents.target, []).append(((place, training_seed), documents))
    return groups


def _resampled_scores(
    rng: np.random.Generator,
    resamples: int,
    by_target: Mapping[tuple[int, ...], Sequence[Run]],
    metric: Callable[[Array], Array],
) -> dict[tuple[Place, int | None], Array]:
    """(resamples,) scores of each run; runs with the same targets see the same draws of documents."""
    scores: dict[tuple[Place, int | None], Array] = {}
    for target, runs in by_target.items():
        labels = max(_labels(documents) for _, documents in runs)
        weights = document_weights(rng, len(target), resamples)
        # One product for all runs: (resamples, documents) @ (documents, runs · labels²).
        counts = weights @ np.hstack([one_hot_confusion(documents, labels) for _, documents in runs])
        confusion = counts.astype(np.float64).reshape(resamples, len(runs), labels, labels)
        scores |= zip((run for run, _ in runs), metric(confusion).T, strict=True)
    return scores


def _averaged_over_seeds(
    rng: np.random.Generator,
    every: Mapping[Place, Mapping[int | None, Documents]],
    scores: Mapping[tuple[Place, int | None], Array],
) -> dict[Place, Array]:
    """(resamples,) scores of each place, averaged over training seeds that are drawn with replacement."""
    averages: dict[Place, Array] = {}
    draws: dict[tuple[int | None, ...], Array] = {}
    for place, runs in every.items():
        seeds = tuple(sorted(runs, key=str))
        drawn = np.stack([scores[place, training_seed] for training_seed in seeds])
        if seeds not in draws:
            share = np.full(len(seeds), 1 / len(seeds))
            draws[seeds] = rng.multinomial(len(seeds), share, size=drawn.shape[1]).T / len(seeds)
        averages[place] = (drawn * draws[seeds]).sum(axis=0)
    return averages


def document_weights(rng: np.random.Generator, documents: int, resamples: int) -> NDArray[np.float32]:
    """(resamples, documents): how often each document was drawn; such counts are exact in float32."""
    share = np.full(documents, 1 / documents)
    return rng.multinomial(documents, share, size=resamples).astype(np.float32)


def interval(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws (R,)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _labels(documents: Documents) -> int:
    return 1 + max(max(documents.target), max(documents.prediction))
