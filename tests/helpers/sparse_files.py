"""Files of sparse fine-tunings as the published format says, written by plain loops."""

from pathlib import Path

import numpy as np
import torch


def entry(difference: torch.Tensor, numpy_first: bool = True) -> dict:
    """One parameter's entry: flat positions with the first dimension fastest, as steps.

    Args:
        difference: dense; zeros are left out.
        numpy_first: write the first position as numpy's number, as published files do.
    """
    size = tuple(difference.shape)
    found = []
    for index in np.ndindex(*size):
        if difference[index] != 0:
            position, stride = 0, 1
            for coordinate, length in zip(index, size, strict=True):
                position, stride = position + stride * coordinate, stride * length
            found.append((position, float(difference[index])))
    found.sort()
    steps, last = [], 0
    for position, _ in found:
        steps.append(position - last)
        last = position
    if steps and numpy_first:
        steps[0] = np.int64(steps[0])
    values = torch.tensor([value for _, value in found], dtype=difference.dtype)
    return {"size": torch.Size(size), "index_steps": steps, "values": values}


def save(folder: Path, diffs: dict[str, torch.Tensor], whole: dict | None = None, **changes: object) -> Path:
    """Write `pytorch_diff.bin` of dense differences; `changes` replaces fields of the first entry."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {name: entry(difference) for name, difference in diffs.items()}
    if changes:
        next(iter(entries.values())).update(changes)
    torch.save({"diffs": entries, "abs": whole or {}}, folder / "pytorch_diff.bin")
    return folder


def sparse(like: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """A random difference that is zero at most places."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(like.shape, generator=generator) < share
    return torch.randn(like.shape, generator=generator) * kept
