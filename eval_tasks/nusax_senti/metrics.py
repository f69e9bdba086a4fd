"""Accuracy and macro-F1 with its standard error. lm-eval's own `f1` is for two classes."""

import numpy as np
from sklearn.metrics import f1_score

LABELS = ["negative", "neutral", "positive"]
BOOTSTRAP_SAMPLES = 10_000
SEED = 1234


def process_results(doc, results):
    """One document's contribution to each metric of the YAML."""
    gold = doc["label"] if isinstance(doc["label"], int) else LABELS.index(doc["label"])
    predicted = int(np.argmax([log_likelihood for log_likelihood, _ in results]))
    # lm-eval gives a custom metric no standard error: it writes "N/A" under f1_macro_stderr. A metric of
    # that name, computed after f1_macro, puts the figure there.
    return {
        "f1_macro": (gold, predicted),
        "acc": float(gold == predicted),
        "f1_macro_stderr": (gold, predicted),
    }


def f1_macro(items):
    """Unweighted mean of the F1 of the classes that occur in the labels or the predictions.

    Args:
        items: (gold, predicted) class numbers, one a document.
    """
    gold, predicted = zip(*items, strict=True)
    return f1_score(gold, predicted, average="macro")


def f1_macro_stderr(items):
    """Bootstrap standard error of `f1_macro`: its standard deviation over resamples of the documents.

    A resample of documents with replacement is a multinomial draw of the cells of the confusion matrix,
    which makes the bootstrap one array operation.
    """
    classes = len(LABELS)
    cells = np.zeros((classes, classes))
    for gold, predicted in items:
        cells[gold, predicted] += 1
    draws = np.random.default_rng(SEED).multinomial(
        len(items), cells.ravel() / len(items), size=BOOTSTRAP_SAMPLES
    )
    draws = draws.reshape(-1, classes, classes)
    hits = np.diagonal(draws, axis1=1, axis2=2)
    due = draws.sum(axis=1) + draws.sum(axis=2)
    f1 = np.divide(2 * hits, due, out=np.full(due.shape, np.nan), where=due > 0)
    return float(np.nanmean(f1, axis=1).std(ddof=1))
