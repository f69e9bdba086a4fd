"""Which block of text a model sees when, and which of its tokens are hidden: functions of seed and position.

Nothing here draws from a global random generator, so a run that was stopped and goes on sees exactly the
batches of one that was not, and the validation masks are the same at every evaluation.
"""

import mmap
from collections.abc import Sequence
from typing import Any, TypedDict

import datasets
import numpy as np
import pyarrow  # type: ignore[import-untyped]
import torch

GIVEN_BACK_AFTER = 128  # blocks
IGNORED = -100  # the label that transformers' losses leave out


class Block(TypedDict):
    """One block on its way to the collator; `key` is what its masks are drawn from."""

    input_ids: np.ndarray
    key: tuple[int, ...]


class MappedBlocks:
    """The blocks of Arrow files, mapped, whose pages are given back as reading goes on.

    Reading at random maps whole neighbourhoods of the rows, and mapped pages count as this process's memory
    until something else needs it: without this it would seem to grow to the size of the text.

    Args:
        files: Arrow stream files with the column `input_ids`, as `datasets` writes them.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = list(files)
        self._maps = [_map(name) for name in self._files]
        tables = [pyarrow.ipc.open_stream(pyarrow.py_buffer(part)).read_all() for part in self._maps]
        table = datasets.table.InMemoryTable(pyarrow.concat_tables(tables))  # which copies nothing
        # Without a name for it, `datasets` would hash the whole table, and copy it for that.
        self._rows = datasets.Dataset(table, fingerprint="-".join(self._files)).with_format("numpy")
        self._read = 0
        self._give_back()

    def __reduce__(self) -> tuple:  # for workers: the files' names, not their content
        return MappedBlocks, (self._files,)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: list[int]) -> dict[str, Any]:
        found = self._rows[rows]
        self._read += len(rows)
        if self._read >= GIVEN_BACK_AFTER:
            self._give_back()
        return found

    def _give_back(self) -> None:
        self._read = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for part in self._maps:
                part.madvise(mmap.MADV_DONTNEED)


def _map(name: str) -> mmap.mmap:
    with open(name, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class BlockStream(torch.utils.data.Dataset):
    """Blocks in the order of training: every block once, in a new order, then every block again.

    Args:
        blocks: a `datasets.Dataset` with the column `input_ids`, as it was written, nothing selected from it.
        length: how many blocks the stream gives; any number, also more or less than there are blocks.
        seed: of the orders and of the masks.
        shuffle: False gives the blocks as they are (validation).
    """

    def __init__(self, blocks: Any, length: int, seed: int, shuffle: bool) -> None:
        self.files = [part["filename"] for part in blocks.cache_files]
        self._blocks = MappedBlocks(self.files) if self.files else blocks.with_format("numpy")
        self._length = length
        self._seed = seed
        self._shuffle = shuffle
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Block:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Block]:
        rows = self._blocks[[self._row(position) for position in positions]]["input_ids"]
        keys = [(self._seed, int(self._shuffle), int(position)) for position in positions]
        return [{"input_ids": ids, "key": key} for ids, key in zip(rows, keys, strict=True)]

    def _row(self, position: int) -> int:
        if not self._shuffle:
            return int(position)
        turn, at = divmod(int(position), len(self._blocks))
        if self._order is None or self._order[0] != turn:
            order = np.random.default_rng((self._seed, turn)).permutation(len(self._blocks)).astype(np.int32)
            self._order = (turn, order)
        return int(self._order[1][at])


def mask_tokens(
    ids: np.ndarray,
    maskable: np.ndarray,
    draws: np.ndarray,
    probability: float,
    mask_id: int,
    vocabulary: int,
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masking (Devlin et al. 2019), which XLM-R keeps.

    Of the chosen tokens 80 % become the mask token, 10 % a random token, 10 % stay.

    Args:
        ids: token ids, any shape.
        maskable: the same shape, False where a token is special or padding.
        draws: uniform numbers in [0, 1), shape (3, *ids.shape): chosen or not, what becomes of it, and which.
        probability: the share of maskable tokens that is chosen.
        mask_id: the mask token.
        vocabulary: random tokens are below this.

    Returns:
        The ids that the model sees, and the labels: the true id where a token was chosen, else `IGNORED`.
    """
    chosen = maskable & (draws[0] < probability)
    masked = chosen & (draws[1] < 0.8)
    replaced = chosen & (draws[1] >= 0.9)
    labels = np.where(chosen, ids, IGNORED)
    seen = np.where(masked, mask_id, ids)
    seen = np.where(replaced, (draws[2] * vocabulary).astype(ids.dtype), seen)
    return seen, labels


class LanguageCollator:
    """Blocks to a batch of tensors, for masked or for next-token prediction.

    Args:
        tokenizer: gives the special tokens, the mask token and the padding.
        mlm_probability: the share of tokens to predict, or None for next-token prediction.
    """

    def __init__(self, tokenizer: Any, mlm_probability: float | None) -> None:
        self._mlm_probability = mlm_probability
        self._special = np.array(sorted(tokenizer.all_special_ids))
        self._mask_id = tokenizer.mask_token_id
        self._vocabulary = len(tokenizer)
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def __call__(self, blocks: Sequence[Block]) -> dict[str, torch.Tensor]:
        longest = max(len(block["input_ids"]) for block in blocks)
        ids = np.full((len(blocks), longest), self._pad_id, dtype=np.int64)
        real = np.zeros((len(blocks), longest), dtype=bool)
        for row, block in enumerate(blocks):
            ids[row, : len(block["input_ids"])] = block["input_ids"]
            real[row, : len(block["input_ids"])] = True
        if self._mlm_probability is None:
            labels = np.where(real, ids, IGNORED)
        else:
            # Drawn token by token, so that a block's masks do not depend on the length of its neighbours.
            draws = np.stack([np.random.default_rng(block["key"]).random((longest, 3)) for block in blocks])
            draws = np.moveaxis(draws, -1, 0)
            maskable = real & ~np.isin(ids, self._special)
            ids, labels = mask_tokens(
                ids, maskable, draws, self._mlm_probability, self._mask_id, self._vocabulary
            )
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }
