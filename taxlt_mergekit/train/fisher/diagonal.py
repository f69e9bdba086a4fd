"""Diagonal Fisher information: the mean over examples of squared gradients of log p(y|x)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def label_fisher(
    rows: Iterable[Any], logits: Callable[[Any], Tensor], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The diagonal of a classifier's Fisher information, over its own distribution of labels.

    F = 1/n Σ_x Σ_y p(y|x) (∂ log p(y|x) / ∂θ)² (Matena and Raffel 2022, equation 3); the sum over the classes
    is exact, and no row's own label is used.

    Args:
        rows: one at a time; at least one.
        logits: of a row, shape [1, classes].
        parameters: that need gradients, by name.

    Returns:
        Name → float32 tensor of the parameter's shape, none negative.
    """

    def weighted(row: Any) -> tuple[Tensor, Tensor]:
        scores = logits(row)[0].float().log_softmax(-1)
        return scores, scores.detach().exp()

    return _mean_of_squares(rows, weighted, parameters)


def empirical_fisher(
    rows: Iterable[Any], loss: Callable[[Any], Tensor], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The mean over rows of squared gradients of the loss on the tokens that stand there.

    Args:
        rows: one at a time; at least one.
        loss: of a row, a scalar.
        parameters: that need gradients, by name.

    Returns:
        As `label_fisher`.
    """

    def alone(row: Any) -> tuple[Tensor, Tensor]:
        value = loss(row).float().reshape(1)
        return value, torch.ones_like(value)

    return _mean_of_squares(rows, alone, parameters)


def _mean_of_squares(
    rows: Iterable[Any], terms: Callable[[Any], tuple[Tensor, Tensor]], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """1/n Σ over rows of Σ weight · gradient², for the terms and weights of each row, shape [m] both."""
    leaves = list(parameters.values())
    sums = [torch.zeros_like(leaf, dtype=torch.float32) for leaf in leaves]
    number = 0
    for row in rows:
        values, weights = terms(row)
        number += 1
        for at, value in enumerate(values):
            more = at + 1 < len(values)
            gradients = torch.autograd.grad(value, leaves, retain_graph=more, allow_unused=True)
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total.addcmul_(gradient.float(), gradient.float() * weights[at])
    return {name: total.div_(number) for name, total in zip(parameters, sums, strict=True)}
