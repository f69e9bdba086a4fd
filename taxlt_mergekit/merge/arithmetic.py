"""Equations 1 to 3 on tensors. Knows nothing of mergekit, of files or of languages.

A vector is a difference of weights, τ = θ − θ₀. All functions stream over chunks that fit the processor's
cache, so that no vector is ever held whole: a merge needs its inputs and one output. Inputs may be parameters
of a model; nothing is recorded for gradients.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taxlt_mergekit.sparsity import Cutoff, keep_

# A Fisher information that float32 cannot divide by without loss.
UNKNOWN = 1e-30

# Entries a step and thread: 512 kB of float32 stay in a core's own cache.
_CPU_CHUNK = 1 << 17
# torch divides no loop of this size among threads.
_UNDIVIDED = 1 << 15
# Accelerators want fewer, larger kernels.
_ACCELERATOR_CHUNK = 1 << 26


@dataclass(frozen=True)
class Term:
    """One addend λ·τ of equation 2.

    Attributes:
        checkpoint: θ, floating point, of θ₀'s shape; τ = θ − θ₀.
        weight: the scaling factor λ with its sign (negative where equation 3 subtracts).
        cutoff: which entries of τ are kept; None keeps all.
    """

    checkpoint: Tensor
    weight: float
    cutoff: Cutoff | None = None


def work_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """The type that sums are taken in: float64 as soon as one input is, float32 otherwise."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def chunks(n: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover range(n) in order, for as many threads as torch has."""
    threads = torch.get_num_threads()
    step = _ACCELERATOR_CHUNK
    if device.type == "cpu":
        step = _CPU_CHUNK * threads if threads > 1 else _UNDIVIDED
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


@torch.no_grad()
def vector_chunks(base: Tensor, checkpoint: Tensor) -> Iterator[Tensor]:
    """The vector τ = θ − θ₀ in consecutive flat pieces.

    The pieces share one buffer: a piece is valid, and may be changed, until the next one is asked for.
    """
    dtype = work_dtype((base, checkpoint))
    base, checkpoint = base.reshape(-1), checkpoint.reshape(-1)
    buffer: Tensor | None = None
    for part in chunks(base.numel(), base.device):
        if buffer is None:
            buffer = base.new_empty(part.stop - part.start, dtype=dtype)
        yield _subtract(checkpoint[part], base[part], buffer[: part.stop - part.start])


@torch.no_grad()
def vector_sample(base: Tensor, checkpoint: Tensor, stride: int) -> Tensor:
    """Every stride-th entry of the vector τ = θ − θ₀, flat."""
    base, checkpoint = base.reshape(-1)[::stride], checkpoint.reshape(-1)[::stride]
    return _subtract(checkpoint, base, base.new_empty(base.shape, dtype=work_dtype((base, checkpoint))))


@torch.no_grad()
def combine(
    base: Tensor,
    terms: Sequence[Term],
    *,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
    norms: bool = True,
) -> tuple[Tensor, list[float]]:
    """θ' = θ₀ + Σ λᵢ·τᵢ (equation 2), for one tensor.

    Sums are taken in float32 (float64 where an input is) and rounded once, to `dtype`. A leading term with
    λ = 1 and no cutoff starts the sum as θ itself, which is θ₀ + τ without the rounding.

    Args:
        base: θ₀, floating point, any shape.
        terms: the addends, in the order in which they are added.
        dtype: the result's type; that of the first term's checkpoint (else θ₀'s) by default.
        out: a contiguous tensor of θ₀'s shape to write to; its type is then the result's.
        norms: False leaves the norms at 0, which saves time where the inputs are known to be finite.

    Returns:
        θ', and the squared norms ‖θ₀‖², ‖τ₁‖², …; a norm that is not finite tells of a NaN or an infinity in
        that input (or in θ₀, which is part of every τ).
    """
    if out is None:
        dtype = dtype or (terms[0].checkpoint if terms else base).dtype
        out = torch.empty(base.shape, dtype=dtype, device=base.device)
    work = work_dtype([base, *(term.checkpoint for term in terms)])
    flat_base, flat_out = base.reshape(-1), out.view(-1)
    flats = [term.checkpoint.reshape(-1) for term in terms]
    starts_at_theta = bool(terms) and terms[0].weight == 1 and terms[0].cutoff is None
    squares = [0.0] * (1 + len(terms))

    parts = list(chunks(base.numel(), base.device))
    size = parts[0].stop if parts else 0
    delta_buffer = torch.empty(size, dtype=work, device=base.device)
    # Where the result has the working type, the output itself is the accumulator.
    sum_buffer = None if out.dtype == work else torch.empty_like(delta_buffer)
    for part in parts:
        length = part.stop - part.start
        delta = delta_buffer[:length]
        total = flat_out[part] if sum_buffer is None else sum_buffer[:length]
        if norms:
            squares[0] += _square(flat_base[part], work)
        if not starts_at_theta:
            total.copy_(flat_base[part])
        for i, term in enumerate(terms):
            is_start = i == 0 and starts_at_theta
            if norms or not is_start:
                _subtract(flats[i][part], flat_base[part], delta)
            if norms:
                squares[i + 1] += _square(delta, work)
            if is_start:
                total.copy_(flats[0][part])
                continue
            if term.cutoff is not None:
                keep_(delta, term.cutoff, part.start)
            total.add_(delta, alpha=term.weight)
        if sum_buffer is not None:
            flat_out[part] = total
    return out, squares


@torch.no_grad()
def squared_norms(base: Tensor, checkpoints: Sequence[Tensor]) -> list[float]:
    """‖θ₀‖², ‖τ₁‖², …, as `combine` has them; one that is not finite tells of a NaN or an infinity."""
    work = work_dtype([base, *checkpoints])
    flat, flats = base.reshape(-1), [checkpoint.reshape(-1) for checkpoint in checkpoints]
    squares = [0.0] * (1 + len(flats))
    buffer: Tensor | None = None
    for part in chunks(base.numel(), base.device):
        if buffer is None:
            buffer = torch.empty(part.stop - part.start, dtype=work, device=base.device)
        squares[0] += _square(flat[part], work)
        for i, checkpoint in enumerate(flats, start=1):
            delta = _subtract(checkpoint[part], flat[part], buffer[: part.stop - part.start])
            squares[i] += _square(delta, work)
    return squares


@dataclass(frozen=True)
class Weighed:
    """A model's tensor, its λ, and how much the model knows of each entry.

    Attributes:
        fisher: diagonal of the Fisher information, of the tensor's shape, not negative.
    """

    checkpoint: Tensor
    weight: float
    fisher: Tensor


@torch.no_grad()
def fisher_mean(
    models: Sequence[Weighed], *, dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """θ' = Σ λᵢ Fᵢ θᵢ / Σ λᵢ Fᵢ (Matena and Raffel 2022, equation 2), for one tensor.

    Where no model knows anything of an entry, Σ λᵢ Fᵢ ≤ `UNKNOWN`, it is the plain mean Σ λᵢ θᵢ / Σ λᵢ. Sums
    are taken in float32 (float64 where an input is) and rounded once, to `dtype`.

    Args:
        models: one or more, with λ ≥ 0 and not all 0.
        dtype: the result's type; that of the first checkpoint by default.
        out: a contiguous tensor to write to; its type is then the result's.
    """
    first = models[0].checkpoint
    if out is None:
        out = torch.empty(first.shape, dtype=dtype or first.dtype, device=first.device)
    work = work_dtype([model.checkpoint for model in models])
    total = sum(model.weight for model in models)
    flat_out = out.view(-1)
    flats = [(m.checkpoint.reshape(-1), m.weight, m.fisher.reshape(-1)) for m in models]
    for part in chunks(first.numel(), first.device):
        known = torch.zeros(part.stop - part.start, dtype=work, device=first.device)
        for _, weight, fisher in flats:
            known.add_(fisher[part], alpha=weight)
        unknown = known <= UNKNOWN
        known.masked_fill_(unknown, total)
        mean = torch.zeros_like(known)
        for checkpoint, weight, fisher in flats:
            share = fisher[part].to(work).masked_fill(unknown, 1.0).mul_(weight).div_(known)
            mean.addcmul_(share, checkpoint[part].to(work))
        flat_out[part] = mean
    return out


def norm_ratio(vector_square: float, base_square: float) -> float:
    """‖τ‖ / ‖θ₀‖ from the two squared norms."""
    return math.sqrt(vector_square / base_square) if base_square else math.inf


def _subtract(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left − right in the type of `out`, whatever theirs is."""
    if left.dtype == right.dtype == out.dtype:
        return torch.sub(left, right, out=out)
    return out.copy_(left).sub_(right.to(out.dtype))


def _square(values: Tensor, dtype: torch.dtype) -> float:
    """‖values‖² of a flat, contiguous tensor."""
    # A row a thread: torch leaves a sum over everything to one thread, which waits for other cores' caches.
    # Not torch.dot: its threads spin while they wait for a core, which on a busy machine takes seconds.
    rows = torch.get_num_threads() if values.device.type == "cpu" else 1
    rows = 1 if len(values) % rows else rows
    norms = torch.linalg.vector_norm(values.view(rows, -1), dim=1, dtype=dtype)
    return sum(norm * norm for norm in norms.tolist())
