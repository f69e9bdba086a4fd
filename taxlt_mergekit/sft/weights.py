"""A checkpoint's tensors: read, changed where a sparse fine-tuning says so, and written one by one."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from mergekit.io.tasks import LoaderCache

from taxlt_mergekit.errors import translated
from taxlt_mergekit.merge.checkpoint import Checkpoint
from taxlt_mergekit.merge.writer import StreamingWriter
from taxlt_mergekit.sft.coding import add
from taxlt_mergekit.sft.file import Difference

_SHARD = 5 * 10**9  # bytes a file, as transformers saves
_ENTRY = 256
_PIECE = 1 << 18  # entries: 1 MB, which the allocator hands out again


def tensor_of(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """A tensor of a checkpoint's files; floating ones in float32, in which fine-tunings are added."""
    with translated(f"{checkpoint.model}: tensor {name} cannot be read"):
        tensor = LoaderCache().get(checkpoint.model).get_tensor(name)
    return tensor.float() if tensor.is_floating_point() else tensor


def write_weights(
    folder: str, tensors: Iterable[tuple[str, torch.Tensor, Difference | None]], names: Iterable[str]
) -> None:
    """Write tensors one by one as safetensors files with transformers' names.

    Args:
        tensors: name, tensor, and what is added to it.
        names: all of them.
    """
    room = _ENTRY + sum(_ENTRY + len(name.encode()) for name in names)
    writer = StreamingWriter(folder, _SHARD, room)
    for name, tensor, change in tensors:
        if change is None:
            writer.save_tensor(name, tensor)
        else:
            writer.save_pieces(name, tensor.dtype, tensor.shape, changed(tensor, change))
    writer.finalize()


def changed(tensor: torch.Tensor, change: Difference, size: int = _PIECE) -> Iterator[torch.Tensor]:
    """θ₀ + the difference, in flat pieces: an embedding is most of a model and is never held twice.

    Args:
        tensor: θ₀, float32.
        size: entries a piece.
    """
    flat, order = tensor.reshape(-1).numpy(), np.argsort(change.positions)
    positions, values = change.positions[order], change.values[order]
    for start in range(0, len(flat), size):
        piece = flat[start : start + size].copy()
        begin, end = np.searchsorted(positions, (start, start + size))
        where = positions[begin:end] - start
        piece[where] = add(piece[where], values[begin:end])
        yield torch.from_numpy(piece)
