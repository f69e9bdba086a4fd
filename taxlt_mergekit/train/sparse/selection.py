"""The K parameters that moved most, |θ₁ − θ₀|, over all tensors together and exactly."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from taxlt_mergekit.sparsity import find_kth

CHUNK = 1 << 22  # entries looked at together


def most_moved(starts: Mapping[str, Tensor], ends: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Where the k largest magnitudes of θ₁ − θ₀ stand (Ansell et al. 2022, section 3.1, phase 1).

    Args:
        starts: θ₀, float32 tensors of any shape by name.
        ends: θ₁, of the same names and shapes, on any device.
        k: from 1 to the number of entries.

    Returns:
        Name → flat positions, int64, ascending; k in all, and no name without one. Of equal magnitudes those
        of earlier names are taken, and within a tensor those of earlier positions.

    Raises:
        NotFiniteError: a NaN or an infinity.
    """

    def pieces() -> Iterator[Tensor]:
        for name, start in starts.items():
            yield from (piece for _, piece in _movements(start, ends[name]))

    kth = find_kth(pieces, k, "top")
    threshold = torch.tensor(kth.key, dtype=torch.int32).view(torch.float32)
    left, found = kth.ties, {}
    for name, start in starts.items():
        positions = []
        for at, piece in _movements(start, ends[name]):
            taken = (piece > threshold).numpy()
            ties = np.flatnonzero((piece == threshold).numpy())[:left]
            taken[ties] = True
            left -= len(ties)
            positions.append(np.flatnonzero(taken) + at)
        chosen = np.concatenate([np.empty(0, dtype=np.int64), *positions])
        if len(chosen):
            found[name] = torch.from_numpy(chosen)
    return found


def count_moved(starts: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> int:
    """How many entries of θ₁ are not θ₀'s."""
    return sum(
        int(piece.count_nonzero())
        for name, start in starts.items()
        for _, piece in _movements(start, ends[name])
    )


def _movements(start: Tensor, end: Tensor) -> Iterator[tuple[int, Tensor]]:
    """|θ₁ − θ₀| of a tensor, piece by piece: the position of the first entry, and the entries."""
    first, last = start.detach().reshape(-1), end.detach().reshape(-1)
    for at in range(0, len(first), CHUNK):
        yield at, (last[at : at + CHUNK].cpu() - first[at : at + CHUNK].cpu()).abs_()


def separate_(end: Tensor, start: Tensor, mask: Tensor) -> int:
    """Move selected entries that are equal to θ₀'s to the next float away from zero, in place.

    A selected parameter may come back to θ₀, or never leave it because its steps were below its precision.
    One unit in the last place makes the file say which parameters are the vector's, and changes nothing else.

    Args:
        end: θ.
        start: θ₀, of the same shape.
        mask: which entries are selected, booleans of the same shape.

    Returns:
        How many were moved.
    """
    equal = mask & (end == start)
    beyond = torch.nextafter(start, torch.copysign(torch.full_like(start, torch.inf), start))
    end.copy_(torch.where(equal, beyond, end))
    return int(equal.count_nonzero())
