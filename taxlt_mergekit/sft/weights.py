"""A checkpoint's tensors, written whole and then changed in place where a sparse fine-tuning says so."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

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


def change_weights(folder: str, changes: Mapping[str, Difference]) -> None:
    """Add differences to tensors of the files in a folder. The files are mapped, so memory does not grow.

    Args:
        changes: a tensor's name in the files → what is added to it.
    """
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        whole = np.memmap(path, mode="r+", dtype=np.uint8)
        for name in changes.keys() & header.keys():
            begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
            entries = whole[begin:end].view(np.float32)
            change = changes[name]
            # In the order of the file, so that each of its pages is fetched once.
            order = np.argsort(change.positions)
            for at in range(0, len(order), _BLOCK):
                some = order[at : at + _BLOCK]
                where = change.positions[some]
                entries[where] = add(entries[where], change.values[some])
