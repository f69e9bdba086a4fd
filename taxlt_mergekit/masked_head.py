"""The head of a masked LM at the masked positions alone.

transformers' encoders compute the scores of the whole vocabulary for every token, of which the loss uses the
masked ones, 15 %. With XLM-R's 250,000 words that is most of the work. Heads look at one token at a time, so
the body's output is cut down to the masked tokens before the head gets it; loss and gradients are the same.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from taxlt_mergekit.block_stream import IGNORED

# Positions are filled up to a multiple of this: libraries prepare a kernel for every size they meet.
MULTIPLE = 64


def head_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where the head is needed: the labelled positions, and a few others to make their number a round one.

    Args:
        labels: shape (batch, tokens), -100 where there is none.

    Returns:
        Booleans of that shape.
    """
    labelled = labels != IGNORED
    missing = -int(labelled.count_nonzero()) % MULTIPLE
    others = (~labelled).view(-1).nonzero()[:missing, 0]
    return labelled.view(-1).index_fill(0, others, True).view_as(labels)


class MaskedHead:
    """Cuts down what the body of a masked LM hands to its head, while positions are set."""

    def __init__(self, model: Any):
        """
        Args:
            model: a transformers model with a language-modelling head, or a peft model around one.
        """
        self._positions: torch.Tensor | None = None
        whole = model.get_base_model() if hasattr(model, "peft_config") else model
        if whole.base_model is not whole:
            whole.base_model.register_forward_hook(self._cut)

    @contextlib.contextmanager
    def at(self, positions: torch.Tensor) -> Iterator[None]:
        """Within: logits have shape (1, positions, vocabulary).

        Args:
            positions: booleans, shape (batch, tokens).
        """
        self._positions = positions
        try:
            yield
        finally:
            self._positions = None

    def _cut(self, _body: Any, _inputs: Any, output: Any) -> Any:
        if self._positions is None or output[0].shape[:2] != self._positions.shape:
            return output
        hidden = output[0][self._positions][None]
        if isinstance(output, tuple):
            return (hidden, *output[1:])
        output["last_hidden_state"] = hidden
        return output
