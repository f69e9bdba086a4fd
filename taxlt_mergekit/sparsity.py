"""Exact selection by magnitude (section 3, "Analysis of Sparsity"; figures 1 to 3), per tensor or global.

A magnitude's bits, read as an integer (its key), sort as the magnitude does. A sample says between which two
keys the k-th almost surely lies; one pass counts what is beyond them and each key between, which finds it
exactly. Where the sample was wrong, histograms of the keys, 16 bits at a time, find it in two passes
(float32). Counts add up across chunks and tensors. Equal entries, of which differences of bfloat16 weights
have many, are one count.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Select = Literal["top", "bottom"]
Scope = Literal["global", "tensor"]

_DIGIT = 16
_BATCH = 1 << 20
# On a processor numpy's comparisons, bincount, flatnonzero and count_nonzero take the place of torch's, which
# are several times as slow.
_hardshrink = torch.ops.aten.hardshrink  # torch.nn.functional.hardshrink has no `out`
_INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}


class NotFiniteError(ValueError):
    """A vector has a NaN or an infinity, so its magnitudes have no order."""


@dataclass(frozen=True)
class Cutoff:
    """Which entries of a vector are kept.

    Attributes:
        select: `top` keeps magnitudes above the key, `bottom` those below.
        key: the k-th magnitude's bits as an integer.
        until: entries with exactly this magnitude are kept at flat positions before this one.
        dtype: the floating-point type whose bits the key is.
    """

    select: Select
    key: int
    until: int
    dtype: torch.dtype

    @staticmethod
    def nothing(select: Select, dtype: torch.dtype) -> "Cutoff":
        """Keeps no entry."""
        return Cutoff(select, _infinity(dtype) if select == "top" else 0, 0, dtype)


@dataclass(frozen=True)
class Kth:
    """The k-th magnitude of a vector.

    Attributes:
        key: its bits as an integer.
        ties: how many entries with exactly this magnitude are among the k.
    """

    key: int
    ties: int


@dataclass(frozen=True)
class Sample:
    """Some entries of a vector, at least one, from all over it, and how many entries the vector has."""

    values: Tensor
    n: int


@dataclass(frozen=True)
class Within:
    """A part of a vector as one bracket of keys sees it.

    Attributes:
        n: entries.
        above: entries with keys above the bracket.
        keys: the different keys in the bracket.
        counts: how many entries have each of them.
    """

    n: int
    above: int
    keys: np.ndarray
    counts: np.ndarray

    def entries(self, key: int) -> int:
        """How many entries have this key of the bracket."""
        return int(self.counts[self.keys == key].sum())


def kept_entries(density: float, n: int) -> int:
    """k = floor(density · n), the number of entries that are kept of n."""
    return min(n, math.floor(density * n))


def magnitude_keys_(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Integers that sort as the magnitudes of `values` do, which are taken in `dtype`. Changes `values`."""
    return values.abs_().to(dtype).view(_INTEGER[dtype])


def find_kth(
    pieces: Callable[[], Iterable[Tensor]], k: int, select: Select, dtype: torch.dtype = torch.float32
) -> Kth:
    """The k-th largest (`top`) or smallest (`bottom`) magnitude of a vector, by histograms.

    Args:
        pieces: yields the vector's flat pieces, anew and the same at each call; they are overwritten.
        k: from 1 to the number of entries.
        dtype: float32, or float64 where a piece is.

    Raises:
        NotFiniteError: a piece holds a NaN or an infinity.
    """
    width = torch.finfo(dtype).bits
    key, remaining = 0, k
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        counts = _digit_counts(pieces(), dtype, shift, key)
        if shift == width - _DIGIT and counts[_infinity(dtype) >> shift :].any():
            raise NotFiniteError("a NaN or an infinity has no place among the magnitudes")
        running = np.cumsum(counts[::-1] if select == "top" else counts)
        position = int(np.searchsorted(running, remaining))
        remaining -= int(running[position - 1]) if position else 0
        digit = len(counts) - 1 - position if select == "top" else position
        key = key << _DIGIT | digit
    return Kth(key, remaining)


def find_bracket(sample: Sample, k: int, select: Select, dtype: torch.dtype) -> tuple[int, int]:
    """Two keys between which the k-th magnitude almost surely lies.

    The rank of the k-th in a sample of m entries is off by at most √m/2 standard deviations of 1; six of
    them are allowed on either side.
    """
    keys = magnitude_keys_(sample.values.clone(), dtype).cpu().numpy()
    m = len(keys)
    rank = k / sample.n * m if select == "bottom" else (1 - k / sample.n) * m
    margin = 3 * math.sqrt(m) + 1
    low, high = max(0, math.floor(rank - margin)), min(m - 1, math.ceil(rank + margin))
    ordered = np.partition(keys, (low, high))
    # Beyond the sample's ends the vector may go on.
    first = int(ordered[low]) if low > 0 else 0
    last = int(ordered[high]) if high < m - 1 else _infinity(dtype) - 1
    return first, last


def count_within(pieces: Iterable[Tensor], bracket: tuple[int, int], dtype: torch.dtype) -> Within:
    """See a vector, or a part of one, through a bracket. Overwrites the pieces.

    A NaN counts as below the bracket: what is not finite is left to be found when the vector is added.
    """
    low, high = (_magnitude(key, dtype) for key in bracket)
    n, above = 0, 0
    tally = _Tally(torch.empty(0, dtype=_INTEGER[dtype]).numpy())
    for piece in pieces:
        values = piece.abs_().to(dtype)
        magnitudes: Any = values.numpy() if values.device.type == "cpu" else values
        beyond = magnitudes > high
        inside = _positions((magnitudes >= low) ^ beyond)
        tally.add(values[inside].view(_INTEGER[dtype]).cpu().numpy())
        n += len(values)
        above += int(np.count_nonzero(beyond) if isinstance(beyond, np.ndarray) else beyond.count_nonzero())
    tally.sum_up()
    return Within(n, above, tally.keys, tally.counts)


def kth_within(parts: Sequence[Within], k: int, select: Select) -> Kth | None:
    """The k-th magnitude of the vector that the parts make up; None where it is not in their bracket."""
    keys = np.concatenate([part.keys for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    above, inside = sum(part.above for part in parts), int(counts.sum())
    below = sum(part.n for part in parts) - above - inside
    # Among the entries in the bracket, counted from the smallest.
    rank = inside - (k - above) + 1 if select == "top" else k - below
    if not 0 < rank <= inside:
        return None
    while True:
        key = np.partition(keys, len(keys) // 2)[len(keys) // 2]
        smaller, larger = keys < key, keys > key
        before = int(counts[smaller].sum())
        found = int(counts.sum()) - before - int(counts[larger].sum())
        if rank <= before:
            keys, counts = keys[smaller], counts[smaller]
        elif rank > before + found:
            keys, counts, rank = keys[larger], counts[larger], rank - before - found
        else:
            ties = rank - before if select == "bottom" else found - (rank - before) + 1
            return Kth(int(key), ties)


def position_after(pieces: Iterable[Tensor], key: int, dtype: torch.dtype, ties: int) -> int:
    """The position after the `ties`-th entry that has exactly this magnitude. Overwrites the pieces.

    Raises:
        ValueError: there are fewer.
    """
    start = 0
    for piece in pieces:
        found = _positions(magnitude_keys_(piece, dtype) == key)
        if ties <= len(found):
            return start + int(found[ties - 1]) + 1
        ties -= len(found)
        start += len(piece)
    raise ValueError(f"{ties} entries fewer have this magnitude")


def keep_(values: Tensor, cutoff: Cutoff, start: int = 0) -> None:
    """Set to zero, in place, what the cutoff does not keep of a flat tensor.

    Args:
        values: consecutive entries of the tensor, shape [n], finite.
        start: the position of the first of them.
    """
    until = min(max(cutoff.until - start, 0), len(values))
    _keep_(values[:until], cutoff, with_ties=True)
    _keep_(values[until:], cutoff, with_ties=False)


def _keep_(values: Tensor, cutoff: Cutoff, with_ties: bool) -> None:
    if not len(values):
        return
    top = cutoff.select == "top"
    # Magnitudes above this key are kept (top) or dropped (bottom).
    key = cutoff.key - (top == with_ties)
    if values.dtype != cutoff.dtype:
        keys = magnitude_keys_(values.clone(), cutoff.dtype)
        values.masked_fill_(keys <= key if top else keys > key, 0)
    elif top and key >= 0:
        _hardshrink.out(values, _magnitude(key, cutoff.dtype), out=values)
    elif not top:
        values.sub_(_hardshrink(values, _magnitude(key, cutoff.dtype)) if key >= 0 else values)


@functools.cache
def _infinity(dtype: torch.dtype) -> int:
    """The key of infinity."""
    return int(magnitude_keys_(torch.tensor([math.inf], dtype=dtype), dtype))


@functools.lru_cache(maxsize=1024)
def _magnitude(key: int, dtype: torch.dtype) -> float:
    return torch.tensor(key, dtype=_INTEGER[dtype]).view(dtype).item()


def _digit_counts(pieces: Iterable[Tensor], dtype: torch.dtype, shift: int, prefix: int) -> np.ndarray:
    """Histogram of 16 bits of the keys, from bit `shift` up, among keys whose higher bits are `prefix`."""
    higher = shift + _DIGIT
    counts = np.zeros(1 << _DIGIT, dtype=np.int64)
    # Adding up histograms costs more than making them where there are few keys, so keys are collected first.
    digits: Tensor | None = None
    filled = 0
    for piece in pieces:
        keys = magnitude_keys_(piece, dtype)
        if higher < torch.finfo(dtype).bits:
            keys = keys[_positions((keys >> higher) == prefix)] & ((1 << higher) - 1)
        if digits is None or filled + len(keys) > len(digits):
            _add_histogram(digits, filled, counts)
            digits, filled = keys.new_empty(max(_BATCH, len(keys))) if digits is None else digits, 0
            if len(keys) > len(digits):
                digits = torch.empty_like(keys)
        torch.bitwise_right_shift(keys, shift, out=digits[filled : filled + len(keys)])
        filled += len(keys)
    _add_histogram(digits, filled, counts)
    return counts


def _add_histogram(digits: Tensor | None, filled: int, counts: np.ndarray) -> None:
    if digits is not None and filled:
        found = np.bincount(digits[:filled].cpu().numpy())
        counts[: len(found)] += found


def _positions(mask: Tensor | np.ndarray) -> Tensor:
    """Indices of the true entries."""
    if isinstance(mask, Tensor) and mask.device.type != "cpu":
        return mask.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(mask))


class _Tally:
    """How often each key was seen.

    Attributes:
        keys, counts: the different keys, ascending, and how often each was seen, without what is new.
    """

    def __init__(self, no_keys: np.ndarray) -> None:
        self.keys, self.counts = no_keys, np.empty(0, dtype=np.int64)
        self._new: list[np.ndarray] = [no_keys]
        self._waiting = 0

    def add(self, keys: np.ndarray) -> None:
        self._new.append(keys)
        self._waiting += len(keys)
        if self._waiting > _BATCH:
            self.sum_up()

    def sum_up(self) -> None:
        keys, counts = np.unique(np.concatenate(self._new), return_counts=True)
        self._new, self._waiting = self._new[:1], 0
        if len(self.keys):
            both, weights = np.concatenate([self.keys, keys]), np.concatenate([self.counts, counts])
            order = np.argsort(both)
            first = np.flatnonzero(np.diff(both[order], prepend=-1))
            keys, counts = both[order][first], np.add.reduceat(weights[order], first)
        self.keys, self.counts = keys, counts
