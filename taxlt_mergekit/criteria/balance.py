"""By how evenly a model's predictions are spread over the classes."""

import numpy as np

from taxlt_mergekit.criteria.curve import Curve, Predictions


def balance(predictions: Predictions) -> Curve:
    """Entropy of the mean prediction, in nats: 0 for one class only, ln K for K classes alike.

    A model that does not understand a language falls back on one class. It is the first term of the mutual
    information between documents and predictions (Bridle, Heading and MacKay 1991, *Unsupervised classifiers,
    mutual information and 'phantom targets'*). The second, the mean entropy of single predictions, is left
    out: it rewards models that are sure and wrong (docs/choosing-lambda.md has the figures).
    """
    return {point: entropy(probabilities.mean(axis=0)) for point, probabilities in predictions.items()}


def entropy(shares: np.ndarray) -> float:
    """Of shares of the classes, (classes,), in nats."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
