"""Which entries of a vector τ = θ − θ₀ are kept: one tensor by itself, or all its tensors together."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from taxlt_mergekit.merge.arithmetic import vector_chunks, vector_sample, work_dtype
from taxlt_mergekit.sparsity import (
    Cutoff,
    Sample,
    Select,
    Within,
    count_within,
    find_bracket,
    find_kth,
    kept_entries,
    kth_within,
    position_after,
)

# (name, θ₀'s tensor, θ's tensor) of each tensor of a vector, anew and the same at each call.
Pairs = Callable[[], Iterable[tuple[str, Tensor, Tensor]]]

# A sample of a whole vector has every 1009th entry, that of one tensor about SAMPLED entries. Odd strides do
# not fall on the same column of a matrix again and again.
SAMPLE_STRIDE = 1009
SAMPLED = 1 << 15


def tensor_cutoff(base: Tensor, checkpoint: Tensor, density: float, select: Select) -> Cutoff:
    """The cutoff of one tensor's vector by itself (scope `tensor`).

    Raises:
        NotFiniteError: the vector holds a NaN or an infinity, and was looked at closely enough to tell.
    """
    stride = max(1, base.numel() // SAMPLED) | 1
    return _cutoffs(lambda: [("", base, checkpoint)], density, select, stride)[""]


def global_cutoffs(pairs: Pairs, density: float, select: Select) -> dict[str, Cutoff]:
    """One threshold over a whole vector (scope `global`).

    Args:
        density: share of all entries that is kept.

    Returns:
        Tensor name → cutoff. Ties are kept in the order of the names, then of the position in a tensor.

    Raises:
        NotFiniteError: as for `tensor_cutoff`.
    """
    return _cutoffs(pairs, density, select, SAMPLE_STRIDE)


def _cutoffs(pairs: Pairs, density: float, select: Select, stride: int) -> dict[str, Cutoff]:
    sizes, dtype, sampled = {}, torch.float32, []
    for name, base, checkpoint in pairs():
        sizes[name] = base.numel()
        dtype = torch.promote_types(dtype, work_dtype((base, checkpoint)))
        sampled.append(vector_sample(base, checkpoint, stride).cpu())
    n = sum(sizes.values())
    k = kept_entries(density, n)
    if k == 0:
        return dict.fromkeys(sizes, Cutoff.nothing(select, dtype))

    def seen_through(bracket: tuple[int, int]) -> dict[str, Within]:
        return {name: count_within(vector_chunks(base, c), bracket, dtype) for name, base, c in pairs()}

    def pieces() -> Iterable[Tensor]:
        for _, base, checkpoint in pairs():
            yield from vector_chunks(base, checkpoint)

    seen = seen_through(find_bracket(Sample(torch.cat(sampled).to(dtype), n), k, select, dtype))
    kth = kth_within(list(seen.values()), k, select)
    if kth is None:
        kth = find_kth(pieces, k, select, dtype)
        seen = seen_through((kth.key, kth.key))
    until, left = {}, kth.ties
    for name in sorted(sizes):
        ties = seen[name].entries(kth.key)
        until[name] = sizes[name] if ties <= left else 0
        if 0 < left < ties:
            split = (vector_chunks(base, c) for other, base, c in pairs() if other == name)
            until[name] = position_after(next(split), kth.key, dtype, left)
        left = max(0, left - ties)
    return {name: Cutoff(select, kth.key, until[name], dtype) for name in sizes}
