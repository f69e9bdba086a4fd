"""What can be said of vectors before they are added up: their sizes, angles and conflicts. Knows no host."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taxlt_mergekit.merge.arithmetic import chunks, work_dtype
from taxlt_mergekit.merge.layers import layer_of

OUTSIDE = "outside the layers"
_ROWS = 1 << 13  # of an embedding, at a time


@dataclass(frozen=True)
class Facts:
    """Sums over entries of tensors; facts of several tensors add up to those of all of them.

    Attributes:
        entries: number of weights.
        base: ‖θ₀‖².
        gram: ⟨τᵢ, τⱼ⟩ for each two vectors.
        moved: entries of each vector that are not zero.
        both: entries in which a vector and the first one are both not zero.
        opposed: those of them in which their signs differ.
        rows: number of rows of the vocabulary.
        moved_rows: rows of the vocabulary with an entry that is not zero, of each vector.
    """

    entries: int
    base: float
    gram: tuple[tuple[float, ...], ...]
    moved: tuple[int, ...]
    both: tuple[int, ...]
    opposed: tuple[int, ...]
    rows: int
    moved_rows: tuple[int, ...]

    def __add__(self, other: "Facts") -> "Facts":
        def added(left: tuple, right: tuple) -> tuple:
            return tuple(map(operator.add, left, right))

        return Facts(
            self.entries + other.entries,
            self.base + other.base,
            tuple(map(added, self.gram, other.gram)),
            added(self.moved, other.moved),
            added(self.both, other.both),
            added(self.opposed, other.opposed),
            self.rows + other.rows,
            added(self.moved_rows, other.moved_rows),
        )

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.base + sum(map(sum, self.gram)))

    def size(self, vector: int) -> float | None:
        """‖τ‖ / ‖θ₀‖; None where θ₀ is zero."""
        return math.sqrt(self.gram[vector][vector] / self.base) if self.base else None

    def cosine(self, left: int, right: int) -> float | None:
        """Of the angle between two vectors; None where one of them is zero."""
        squares = self.gram[left][left] * self.gram[right][right]
        return self.gram[left][right] / math.sqrt(squares) if squares else None

    def share_moved(self, vector: int) -> float:
        return self.moved[vector] / self.entries

    def share_opposed(self, vector: int) -> float | None:
        """Of the entries that this vector and the first one both change, those they pull apart."""
        return self.opposed[vector] / self.both[vector] if self.both[vector] else None


@torch.no_grad()
def measure(base: Tensor, checkpoints: Sequence[Tensor], vocabulary_axis: int | None = None) -> Facts:
    """The facts of one tensor, in one pass over chunks that fit the processor's cache.

    Args:
        base: θ₀, floating point, any shape.
        checkpoints: θ of each vector, of θ₀'s shape; the others' signs are compared with the first one's.
        vocabulary_axis: the axis that counts the pieces of the vocabulary, where there is one.
    """
    work = work_dtype([base, *checkpoints])
    flat_base, flats = base.reshape(-1), [tensor.reshape(-1) for tensor in checkpoints]
    count = len(flats)
    square, gram = 0.0, torch.zeros(count, count, dtype=torch.float64)
    moved, both, opposed = [0] * count, [0] * count, [0] * count
    parts = list(chunks(base.numel(), base.device))
    buffer = torch.empty(count, parts[0].stop if parts else 0, dtype=work, device=base.device)
    for part in parts:
        start = flat_base[part].to(work)
        deltas = buffer[:, : len(start)]
        for delta, flat in zip(deltas, flats, strict=True):
            torch.sub(flat[part].to(work), start, out=delta)
        square += float(torch.dot(start, start))
        gram += (deltas @ deltas.T).to("cpu", torch.float64)
        changed = deltas != 0
        positive = deltas > 0
        for i in range(count):
            shared = changed[i] & changed[0]
            moved[i] += int(changed[i].count_nonzero())
            both[i] += int(shared.count_nonzero())
            opposed[i] += int((shared & (positive[i] ^ positive[0])).count_nonzero())
    rows, moved_rows = 0, [0] * count
    if vocabulary_axis is not None:
        rows = base.shape[vocabulary_axis]
        moved_rows = [_moved_rows(base, tensor, vocabulary_axis) for tensor in checkpoints]
    return Facts(
        base.numel(),
        square,
        tuple(map(tuple, gram.tolist())),
        tuple(moved),
        tuple(both),
        tuple(opposed),
        rows,
        tuple(moved_rows),
    )


def by_layer(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Tensor name → its layer and its kind, which is its name within the layer.

    Layers are called by their number; by their stack's name too where a model has several stacks.
    """
    layers = {name: layer_of(name) for name in names}
    stacks = {layer[0] for layer in layers.values() if layer}
    places = {}
    for name, found in layers.items():
        kind = found[2] if found else ".".join(name.split(".")[-2:])
        stack = "" if found is None or len(stacks) == 1 else f"{found[0]} "
        layer = f"{stack}layer {found[1]}" if found else OUTSIDE
        places[name] = layer, kind.removesuffix(".weight")
    return places


def summed(facts: Mapping[str, Facts], groups: Mapping[str, str]) -> dict[str, Facts]:
    """Tensor → facts and tensor → group, as group → the facts of all its tensors, in the tensors' order."""
    found: dict[str, Facts] = {}
    for name, these in facts.items():
        group = groups[name]
        found[group] = found[group] + these if group in found else these
    return found


def _moved_rows(base: Tensor, checkpoint: Tensor, axis: int) -> int:
    base, checkpoint = base.movedim(axis, 0), checkpoint.movedim(axis, 0)
    return sum(
        int((left != right).unsqueeze(-1).flatten(1).any(dim=1).count_nonzero())
        for left, right in zip(base.split(_ROWS), checkpoint.split(_ROWS), strict=True)
    )
