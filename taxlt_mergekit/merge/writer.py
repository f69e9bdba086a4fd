"""Writes a checkpoint while it is being merged, on a thread of its own.

mergekit's writer keeps all tensors of a file until the last one is there and then writes them, which takes a
third of a merge. A safetensors file starts with a header that has every tensor's place, but the header may be
padded: so room is left for it, tensors are written as they come, and the header last.
"""

import json
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import torch
from mergekit.io.tasks import FinalizeModel, SaveTensor, TensorWriterTask
from mergekit.io.tensor_writer import TensorWriter

# safetensors' names of types, as its format defines them.
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# Tensors that wait to be written, at most: a slow disk holds the merge up rather than fill the memory, and a
# full one ends it at once.
_AHEAD = 8
# Header bytes a tensor besides its name: type, up to eight dimensions, two offsets.
_ENTRY = 256


class StreamingWriter(TensorWriter):
    """mergekit's writer of safetensors files, except that a file is written from its first tensor on."""

    def __init__(self, out_path: str, max_shard_size: int, header_room: int):
        """
        Args:
            out_path: folder of the checkpoint.
            max_shard_size: bytes of tensors a file.
            header_room: bytes to leave for a file's header.
        """
        super().__init__(out_path, max_shard_size=max_shard_size)
        self.current_shard_size: int = 0
        self._room = -(-header_room // 8) * 8
        self._file: BinaryIO | None = None
        self._header: dict[str, Any] = {}
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: deque[Future] = deque()

    def save_tensor(self, name: str, tensor: torch.Tensor, clone: bool = False) -> None:
        tensor = tensor.detach().cpu().contiguous()
        self.save_pieces(name, tensor.dtype, tensor.shape, [tensor])

    def save_pieces(
        self, name: str, dtype: torch.dtype, shape: torch.Size, pieces: Iterable[torch.Tensor]
    ) -> None:
        """Save a tensor that is never held whole. Of a name that is saved already it does nothing:
        `--multi-gpu` may carry out a task twice, and a second entry would leave a hole in the file.

        Args:
            pieces: its entries in their order, contiguous, of this type and on the processor's memory.
        """
        size = shape.numel() * dtype.itemsize
        with self._lock:
            if name in self._header or name in self.weight_map:
                return
            if self._file is not None and 0 < self.max_shard_size < self.current_shard_size + size:
                self._finish_file()
            if self._file is None:
                self._start_file()
            begin, end = self.current_shard_size, self.current_shard_size + size
            self._header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
            self.current_shard_size = end
            assert self._file is not None
            for piece in pieces:
                self._pending.append(self._thread.submit(_append, self._file, piece))
                if len(self._pending) > _AHEAD:
                    self._pending.popleft().result()

    def finalize(self) -> None:
        with self._lock:
            if self._file is not None:
                self._finish_file()
        self._thread.shutdown()
        super().finalize()  # names the files and writes their index

    def _start_file(self) -> None:
        name = "{}-{}.{}".format(self._get_name_components()[0], self.shards_written + 1, "safetensors")
        self._file = open(os.path.join(self.out_path, name), "wb", buffering=0)  # noqa: SIM115
        self._file.seek(8 + self._room)

    def _finish_file(self) -> None:
        assert self._file is not None
        for write in self._pending:
            write.result()
        header = json.dumps({"__metadata__": {"format": "pt"}} | self._header, separators=(",", ":")).encode()
        if len(header) > self._room:
            raise RuntimeError(f"the header of {self._file.name} takes {len(header)} bytes, not {self._room}")
        self._file.seek(0)
        self._file.write(self._room.to_bytes(8, "little") + header.ljust(self._room))
        self._file.close()
        self.weight_map |= dict.fromkeys(self._header, os.path.basename(self._file.name))
        self.shards_written += 1
        self.total_size += self.current_shard_size
        self.current_shard_size, self._file, self._header, self._pending = 0, None, {}, deque()


class StreamingWriterTask(TensorWriterTask):
    """mergekit's task that makes the writer, with ours."""

    header_room: int

    def execute(self, **_kwargs: Any) -> TensorWriter:
        return StreamingWriter(self.out_path, self.max_shard_size, self.header_room)


def stream_output(tasks: list[Any]) -> list[Any]:
    """A plan's tasks with a `StreamingWriter` in place of mergekit's, where that writes safetensors."""
    saves = [task for task in tasks if isinstance(task, SaveTensor)]
    if not saves or not saves[0].writer_task.safe_serialization:
        return tasks
    stock = saves[0].writer_task
    writer = StreamingWriterTask(
        out_path=stock.out_path,
        max_shard_size=stock.max_shard_size,
        header_room=_ENTRY + sum(_ENTRY + len(save.tensor_name.encode()) for save in saves),
    )
    streamed = {save: save.model_copy(update={"writer_task": writer}) for save in saves}

    def changed(task: Any) -> Any:
        if isinstance(task, FinalizeModel):
            update = {"tensor_save_tasks": tuple(streamed.values()), "writer_task": writer}
            return task.model_copy(update=update)
        return streamed[task] if isinstance(task, SaveTensor) else task

    return [changed(task) for task in tasks]


def _append(file: BinaryIO, tensor: torch.Tensor) -> None:
    if tensor.numel():
        data = tensor.view(-1).view(torch.uint8).numpy().data
        while data:
            data = data[file.write(data) :]
