"""How documents of unequal length share a batch without a change to their scores.

Whether padding changes scores is tried, not looked up: FNet has no attention mask, and of the models that
have one CANINE, ConvBERT, Funnel, MobileBERT, Nyströmformer, XLNet and others let padding through, on one
side or both. Documents of equal length share a batch in every family.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

Side = Literal["right", "left"]
# One document: the tokenizer's columns, a number a token.
Row = Mapping[str, list[int]]
Columns = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Padding:
    """How rows are made equally long.

    Attributes:
        token: id that fills; None where the model has none, so that documents are scored one at a time.
        segment: the fill's number among `token_type_ids`.
        side: where it goes; None where it would change scores, so that only equal lengths share a batch.
    """

    token: int | None
    segment: int
    side: Side | None

    def batch(self, rows: Sequence[Row], length: int = 0) -> Columns:
        """Columns (documents, tokens) of rows, filled up to the longest of them, or to `length`.

        An attention mask is among them, also where the tokenizer gives none.
        """
        length = max(length, *(len(row["input_ids"]) for row in rows))
        fills = {"input_ids": self.token or 0, "token_type_ids": self.segment}
        masked = [{"attention_mask": [1] * len(row["input_ids"])} | dict(row) for row in rows]
        return {
            name: torch.tensor([self._filled(row[name], length, fills.get(name, 0)) for row in masked])
            for name in masked[0]
        }

    def together(self, lengths: Sequence[int]) -> int:
        """How many documents of these lengths, from the first on, share a batch."""
        if self.token is None:
            return 1
        if self.side is None:
            return next((n for n, length in enumerate(lengths) if length != lengths[0]), len(lengths))
        return len(lengths)

    def _filled(self, values: list[int], length: int, fill: int) -> list[int]:
        more = [fill] * (length - len(values))
        return more + values if self.side == "left" else values + more


def padding_token(stated: Any, tokenizers: int | None, vocabulary: int | None) -> int | None:
    """The id to pad with: the model's own, as pooling and position numbers go by it, else the tokenizer's.

    Args:
        stated: `pad_token_id` of the model's config.
        tokenizers: that of its tokenizer.
        vocabulary: how many ids the model has embeddings for, where that is known.
    """
    for token in (stated, tokenizers):
        if isinstance(token, int) and token >= 0 and (vocabulary is None or token < vocabulary):
            return token
    return None


def harmless(
    padding: Padding,
    logits: Callable[[Columns], torch.Tensor],
    rows: Sequence[Row],
    longest: int,
    precision: torch.dtype,
) -> Padding:
    """A padding that changes no score: as given, else on the other side, else on none.

    Args:
        logits: a forward pass of the model, (documents, labels).
        rows: short documents of several lengths.
        longest: how many tokens the model takes.
        precision: the type that it computes in.
    """
    length = min(longest, max(len(row["input_ids"]) for row in rows) + len(rows))
    other = replace(padding, side="left" if padding.side == "right" else "right")
    try:
        alone = torch.cat([logits(padding.batch([row])) for row in rows]).float()
        # In half precision every batch has noise of its own.
        scale = max(1.0, float(alone.nan_to_num().abs().max()))
        tolerance = max(1e-4, 8 * torch.finfo(precision).eps) * scale
        for candidate in (padding, other):
            padded = logits(candidate.batch(rows, length)).float()
            if torch.allclose(padded, alone, rtol=0, atol=tolerance, equal_nan=True):
                return candidate
    except (RuntimeError, ValueError, IndexError):  # too short for it: that much is no reason to refuse it
        pass
    return replace(padding, side=None)
