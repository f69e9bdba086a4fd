"""Paired bootstrap of the difference between two models that were scored on the same documents."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from taxlt_mergekit.results import Documents

Array = NDArray[np.float64]

# language -> training seed -> labels of every document
Runs = Mapping[str, Mapping[int | None, Documents]]

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
    blocks = [
        _one_block(rng, min(BLOCK, resamples - start), baseline, others, METRICS[metric])
        for start in range(0, resamples, BLOCK)
    ]
    return {
        name: {
            code: np.concatenate([block[name, code] for block in blocks]) for code in runs if code in baseline
        }
        for name, runs in others.items()
    }


def _one_block(
    rng: np.random.Generator,
    resamples: int,
    baseline: Runs,
    others: Mapping[str, Runs],
    metric: Callable[[Array], Array],
) -> dict[tuple[str, str], Array]:
    document_weights: dict[tuple[int, ...], NDArray[np.float32]] = {}
    seed_weights: dict[tuple[int | None, ...], Array] = {}

    def resampled(runs: Mapping[int | None, Documents]) -> Array:
        seeds = tuple(runs)
        if seeds not in seed_weights:
            share = np.full(len(seeds), 1 / len(seeds))
            seed_weights[seeds] = rng.multinomial(len(seeds), share, size=resamples) / len(seeds)
        total = np.zeros(resamples)
        for documents, seed_weight in zip(runs.values(), seed_weights[seeds].T, strict=True):
            if documents.target not in document_weights:
                document_weights[documents.target] = _document_weights(rng, len(documents.target), resamples)
            labels = _labels(documents)
            counts = document_weights[documents.target] @ one_hot_confusion(documents, labels)
            total += seed_weight * metric(counts.reshape(resamples, labels, labels).astype(np.float64))
        return total

    reference = {code: resampled(runs) for code, runs in baseline.items()}
    return {
        (name, code): resampled(runs) - reference[code]
        for name, by_language in others.items()
        for code, runs in by_language.items()
        if code in reference
    }


def interval(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws (R,)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _document_weights(rng: np.random.Generator, documents: int, resamples: int) -> NDArray[np.float32]:
    """(resamples, documents): how often each document was drawn; counts are exact in float32."""
    share = np.full(documents, 1 / documents)
    return rng.multinomial(documents, share, size=resamples).astype(np.float32)


def _labels(documents: Documents) -> int:
    return 1 + max(max(documents.target), max(documents.prediction))
