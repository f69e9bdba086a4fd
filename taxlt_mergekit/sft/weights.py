"""A checkpoint's tensors: read, changed where a sparse fine-tuning says so, and written one by one."""

from collections.abc import Iterable

import torch
from mergekit.io.tasks import LoaderCache

from taxlt_mergekit.errors import translated
from taxlt_mergekit.merge.checkpoint import Checkpoint
from taxlt_mergekit.merge.writer import StreamingWriter
from taxlt_mergekit.sft.coding import add
from taxlt_mergekit.sft.file import Difference

_SHARD = 5 * 10**9  # bytes a file, as transformers saves
_ENTRY = 256
_BLOCK = 1 << 22  # entries changed at a time


def tensor_of(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """A tensor of a checkpoint's files; floating ones in float32, in which fine-tunings are added."""
    with translated(f"{checkpoint.model}: tensor {name} cannot be read"):
        tensor = LoaderCache().get(checkpoint.model).get_tensor(name)
    return tensor.float() if tensor.is_floating_point() else tensor


def write_weights(folder: str, tensors: Iterable[tuple[str, torch.Tensor]], names: Iterable[str]) -> None:
    """Write tensors one by one as safetensors files with transformers' names."""
    room = _ENTRY + sum(_ENTRY + len(name.encode()) for name in names)
    writer = StreamingWriter(folder, _SHARD, room)
    for name, tensor in tensors:
        writer.save_tensor(name, tensor)
    writer.finalize()


def changed(tensor: torch.Tensor, change: Difference) -> torch.Tensor:
    """θ₀ + the difference, a new float32 tensor.

    Before it is written: pages of a file that the system is writing out would have to be waited for.
    """
    result = tensor.clone(memory_format=torch.contiguous_format)
    entries = result.numpy().reshape(-1)
    for at in range(0, len(change.positions), _BLOCK):
        where = change.positions[at : at + _BLOCK]
        entries[where] = add(entries[where], change.values[at : at + _BLOCK])
    return result
