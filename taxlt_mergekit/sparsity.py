"""Exact selection by magnitude (section 3, "Analysis of Sparsity"; figures 1 to 3), per tensor or global.

A magnitude's bits, read as an integer (its key), sort as the magnitude does. A sample says between which two
keys the k-th almost surely lies; one pass counts what is beyond them and keeps the few keys between, among
which it is found exactly. Where the sample was wrong or many entries are equal, histograms of the keys, 16
bits at a time, find it in two passes (float32). Counts add up across chunks and tensors.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Select = Literal["top", "bottom"]
Scope = Literal["global", "tensor"]

_DIGIT = 16
_BATCH = 1 << 20
# A bracket with more of a vector than this would be slower than histograms, unless the vector is small.
_MOST, _SMALL = 0.1, 1 << 12
# On a processor numpy's bincount and flatnonzero take the place of torch's, which are several times as slow.
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
        ties: how many entries with exactly this magnitude are kept, the first ones by position.
        dtype: the floating-point type whose bits the key is.
    """

    select: Select
    key: int
    ties: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Sample:
    """Some entries of a vector, from all over it, and how many entries the vector has."""

    values: Tensor
    n: int


@dataclass(frozen=True)
class Within:
    """A part of a vector as one bracket of keys sees it.

    Attributes:
        n: entries.
        above: entries with keys above the bracket.
        keys: the keys in the bracket, in any order.
    """

    n: int
    above: int
    keys: np.ndarray


def kept_entries(density: float, n: int) -> int:
    """k = floor(density · n), the number of entries that are kept of n."""
    return min(n, math.floor(density * n))


def magnitude_keys_(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Integers that sort as the magnitudes of `values` do, which are taken in `dtype`. Changes `values`."""
    return values.abs_().to(dtype).view(_INTEGER[dtype])


def find_cutoff(
    pieces: Callable[[], Iterable[Tensor]],
    k: int,
    select: Select,
    dtype: torch.dtype = torch.float32,
    sample: Sample | None = None,
) -> Cutoff:
    """The cutoff that keeps exactly k entries of a vector.

    Args:
        pieces: yields the vector's flat pieces, anew and the same at each call; they are overwritten.
        k: how many entries to keep, 0 ≤ k ≤ n.
        select: keep the largest (`top`) or the smallest (`bottom`) magnitudes.
        dtype: float32, or float64 where a piece is.
        sample: makes the search faster, not different.

    Raises:
        NotFiniteError: a piece holds a NaN or an infinity. Without a sample only.
    """
    if k == 0:
        return Cutoff(select, _infinity(dtype) if select == "top" else 0, 0, dtype)
    if sample is not None and (bracket := find_bracket(sample, k, select, dtype)) is not None:
        found = cutoff_within([count_within(pieces(), bracket, dtype)], k, select, dtype)
        if found is not None:
            return found
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
    return Cutoff(select, key, remaining, dtype)


def find_bracket(sample: Sample, k: int, select: Select, dtype: torch.dtype) -> tuple[int, int] | None:
    """Two keys between which the k-th magnitude almost surely lies; None where too many entries would.

    The rank of the k-th in a sample of m entries is off by at most √m/2 standard deviations of 1; six of
    them are allowed on either side.
    """
    keys = magnitude_keys_(sample.values.clone(), dtype).cpu().numpy()
    m = len(keys)
    if m == 0:
        return None
    rank = k / sample.n * m if select == "bottom" else (1 - k / sample.n) * m
    margin = 3 * math.sqrt(m) + 1
    low, high = max(0, math.floor(rank - margin)), min(m - 1, math.ceil(rank + margin))
    ordered = np.partition(keys, (low, high))
    # Beyond the sample's ends the vector may go on.
    first = int(ordered[low]) if low > 0 else 0
    last = int(ordered[high]) if high < m - 1 else _infinity(dtype) - 1
    inside = np.count_nonzero((keys >= first) & (keys <= last))
    return (first, last) if m <= _SMALL or inside <= _MOST * m else None


def count_within(pieces: Iterable[Tensor], bracket: tuple[int, int], dtype: torch.dtype) -> Within:
    """See a vector, or a part of one, through a bracket. Overwrites the pieces.

    A NaN counts as below the bracket: what is not finite is left to be found when the vector is added.
    """
    low, high = (_magnitude(key, dtype) for key in bracket)
    n, above, found = 0, 0, []
    for piece in pieces:
        values = piece.abs_().to(dtype)
        beyond = values > high
        n += len(values)
        above += int(beyond.count_nonzero())
        inside = (values >= low).logical_xor_(beyond)
        found.append(values[_positions(inside)].view(_INTEGER[dtype]).cpu().numpy())
    return Within(n, above, np.concatenate(found) if found else np.empty(0, dtype=np.int64))


def cutoff_within(parts: Sequence[Within], k: int, select: Select, dtype: torch.dtype) -> Cutoff | None:
    """The cutoff of the vector that the parts make up; None where it is not in their bracket."""
    keys = np.concatenate([part.keys for part in parts])
    above = sum(part.above for part in parts)
    below = sum(part.n for part in parts) - above - len(keys)
    remaining = k - (above if select == "top" else below)
    if not 0 < remaining <= len(keys):
        return None
    position = len(keys) - remaining if select == "top" else remaining - 1
    key = int(np.partition(keys, position)[position])
    ties = remaining - int(np.count_nonzero(keys > key if select == "top" else keys < key))
    if key and ties == np.count_nonzero(keys == key):
        # All of them are kept, which is quicker done without looking for ties.
        return Cutoff(select, key - 1 if select == "top" else key + 1, 0, dtype)
    return Cutoff(select, key, ties, dtype)


def count_ties(pieces: Iterable[Tensor], cutoff: Cutoff) -> int:
    """How many entries have exactly the cutoff's magnitude. Overwrites the pieces."""
    return sum(int((magnitude_keys_(p, cutoff.dtype) == cutoff.key).count_nonzero()) for p in pieces)


def keep_(values: Tensor, cutoff: Cutoff, ties: int) -> int:
    """Set to zero, in place, what the cutoff does not keep of a flat tensor.

    Args:
        values: consecutive entries of the vector, shape [n], finite.
        ties: how many of the entries at the cutoff may still be kept.

    Returns:
        How many may be kept of what follows.
    """
    if ties == 0 and values.dtype == cutoff.dtype:
        _keep_beyond_(values, cutoff)
        return 0
    keys = magnitude_keys_(values.clone(), cutoff.dtype)
    dropped = keys < cutoff.key if cutoff.select == "top" else keys > cutoff.key
    at_cutoff = keys == cutoff.key
    found = int(at_cutoff.count_nonzero())
    if found > ties:
        dropped[at_cutoff.nonzero()[ties:]] = True
    values.masked_fill_(dropped, 0)
    return max(0, ties - found)


def _keep_beyond_(values: Tensor, cutoff: Cutoff) -> None:
    """`keep_` without ties, in one fused kernel: almost all of a large vector goes this way."""
    if cutoff.select == "top":
        _hardshrink.out(values, _magnitude(cutoff.key, cutoff.dtype), out=values)
    elif cutoff.key == 0:
        values.zero_()
    else:
        values.sub_(_hardshrink(values, _magnitude(cutoff.key - 1, cutoff.dtype)))


def _infinity(dtype: torch.dtype) -> int:
    """The key of infinity."""
    return int(magnitude_keys_(torch.tensor([math.inf], dtype=dtype), dtype))


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


def _positions(mask: Tensor) -> Tensor:
    """Indices of the true entries."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)
