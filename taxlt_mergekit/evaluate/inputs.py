"""What a classification model can be given: how many tokens, which ids, which columns of its tokenizer."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from taxlt_mergekit.errors import UserError

# Modules that hold a vector for each position, as transformers' families call them.
_POSITIONS = re.compile(r"wpe|(\w+_)?(embed_positions|positions?_embed(dings?)?)")
_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Inputs:
    """A tokenizer and what its model takes of it.

    Attributes:
        name: the model's, for errors and warnings.
        longest: tokens.
        columns: those of the tokenizer's that the forward pass knows.
        segments: how many numbers of segments there are embeddings for, None or 0 where there are none.
        vocabulary: how many ids there are embeddings for; None where the model has none (CANINE hashes ids).
        warn: told of what does not fit, maybe again and again.
    """

    name: str
    tokenizer: Any
    longest: int
    columns: frozenset[str]
    segments: int | None
    vocabulary: int | None
    warn: Callable[[str], None]

    def rows(self, texts: Sequence[Sequence[str]]) -> tuple[list[dict[str, list[int]]], list[int]]:
        """Documents of one or two texts each as rows without padding, and which of them were truncated.

        Raises:
            UserError: a token that the model has no embedding for, or no room for text.
        """
        rows = self._tokenized(texts)
        too_long = [index for index, row in enumerate(rows) if len(row["input_ids"]) > self.longest]
        special = self.tokenizer.num_special_tokens_to_add(pair=len(texts[0]) > 1)
        if too_long and self.longest <= special:
            raise UserError(
                f"{self.name}: a document of at most {self.longest} tokens has no room for text beside "
                f"{special} special tokens; give a larger max_length"
            )
        for index in too_long:
            (rows[index],) = self._tokenized([texts[index]], truncation=True, max_length=self.longest)
        for row in rows:
            top = max(row["input_ids"], default=0)
            if self.vocabulary is not None and top >= self.vocabulary:
                raise UserError(
                    f"{self.name}: its tokenizer gives token {top} "
                    f"({self.tokenizer.convert_ids_to_tokens(top)!r}), the model has embeddings for "
                    f"{self.vocabulary}: it is another model's tokenizer"
                )
        return rows, too_long

    def _tokenized(self, texts: Sequence[Sequence[str]], **options: Any) -> list[dict[str, list[int]]]:
        columns = dict(self.tokenizer(*map(list, zip(*texts, strict=True)), verbose=False, **options))
        columns = {name: rows for name, rows in columns.items() if name in self.columns}
        segment = max((number for row in columns.get("token_type_ids", ()) for number in row), default=0)
        if self.segments and segment >= self.segments:
            self.warn(
                f"{self.name}: its tokenizer numbers the texts of a pair 0 to {segment}, the model knows "
                f"{self.segments} of them: all are given as 0"
            )
            columns["token_type_ids"] = [[0] * len(row) for row in columns["token_type_ids"]]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def accepted_columns(network: torch.nn.Module) -> frozenset[str]:
    """The tokenizer's columns that a forward pass knows by name; all where it names none."""
    named = inspect.signature(network.forward).parameters
    return frozenset(name for name in _COLUMNS if name in named or "input_ids" not in named)


def vocabulary_size(model: torch.nn.Module) -> int | None:
    """How many ids a model has embeddings for; None where it does not look them up in a table."""
    try:
        return len(model.get_input_embeddings().weight)  # type: ignore[operator]
    except (NotImplementedError, AttributeError, TypeError):
        return None


def learned_positions(network: torch.nn.Module, stated: int) -> int | None:
    """The most tokens that a model's learned positions hold; None where it computes them (rotary, relative).

    Args:
        stated: the number of positions in its config, below 1 where there is none.
    """
    held = []
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() != 2 or not _POSITIONS.fullmatch(name.rpartition(".")[2]):
            continue
        # RoBERTa's positions start after the padding index: 514 of them hold 512 tokens.
        padding_index = getattr(module, "padding_idx", None)
        if len(weight) >= stated:  # fewer are those of pictures
            held.append(len(weight) - (0 if padding_index is None else padding_index + 1))
    return min(held + [stated] * (stated > 0)) if held else None
