"""`pytorch_diff.bin`, the file of a sparse fine-tuning: read without running anything in it, and written."""

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
from torch.serialization import safe_globals

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.model_files import is_lfs_pointer
from taxlt_mergekit.sft.coding import positions_of_steps

NAME = "pytorch_diff.bin"
# Runs of pickled small integers, of one, two or four bytes. torch's reader, which is written in Python, takes
# 17 s for the 7.6 million of a published file; a run is read here at once.
_RUN = re.compile(rb"(?:K.|M..|J....){64,4096}", re.DOTALL)
# Opcode -> bytes of its integer, itself among them.
_BYTES = np.ones(256, np.int64)
_BYTES[list(b"KMJ")] = 2, 3, 5
_STANDS_FOR_RUN = "\0run "


@dataclass(frozen=True)
class Difference:
    """What was changed of one parameter.

    Attributes:
        size: of the parameter.
        positions: of the changed entries, in C order (last dimension fastest), int64.
        values: θ − θ₀ there, float32 or float64.
    """

    size: tuple[int, ...]
    positions: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class SparseFineTuning:
    """A file's content: differences by parameter, and whole tensors (heads) by parameter."""

    differences: dict[str, Difference]
    whole: dict[str, torch.Tensor]


def locate(source: str) -> Path:
    """The file itself, in a folder, or of a model on the hub.

    Raises:
        UserError: none of them.
    """
    path = Path(source)
    if path.is_dir():
        path = path / NAME
        if not path.is_file():
            raise UserError(f"{source}: the folder has no {NAME}")
    elif not path.exists():
        if source.startswith(("/", ".", "~")):
            raise UserError(f"{source}: no such file or folder")
        with translated(f"{source}: no such folder, and {NAME} is not to be had from the hub"):
            path = Path(huggingface_hub.hf_hub_download(source, NAME))
    if is_lfs_pointer(str(path)):
        raise UserError(f"{path}: is a Git-LFS pointer, not the file itself; fetch it with git lfs pull")
    return path


def read(path: Path) -> SparseFineTuning:
    """Read a file, by torch's reader of weights: tensors, numbers and containers, and nothing else.

    Raises:
        UserError: anything else is in it, or a parameter's entry is no difference.
    """
    runs: list[np.ndarray] = []
    with (
        translated(f"{path}: is not a {NAME} of tensors, numbers and names"),
        safe_globals(_numpy_scalars()),
    ):
        file: Any = str(path)
        if zipfile.is_zipfile(path):
            file, runs = _without_runs(path)
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not {"diffs", "abs"} & content.keys():
        raise UserError(f"{path}: has neither diffs nor abs, so it is no sparse fine-tuning")
    diffs, whole = (_named(path, key, content.get(key, {})) for key in ("diffs", "abs"))
    if not diffs and not whole:
        raise UserError(f"{path}: changes no parameter")
    differences = {name: _difference(f"{path}: {name}", entry, runs) for name, entry in diffs.items()}
    for name, tensor in whole.items():
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"{path}: {name} in abs is {type(tensor).__name__}, not a tensor")
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} has values that are NaN or infinite")
    return SparseFineTuning(differences, whole)


def write(
    path: Path, entries: Mapping[str, tuple[tuple[int, ...], np.ndarray, np.ndarray]], whole: Any
) -> None:
    """Write a file as the authors' library does.

    Args:
        entries: parameter → size, steps, values in the order of the steps.
        whole: parameter → whole tensor.
    """
    diffs = {
        name: {
            "size": torch.Size(size),
            "index_steps": steps.tolist(),
            "values": torch.from_numpy(values),
        }
        for name, (size, steps, values) in entries.items()
    }
    torch.save({"diffs": diffs, "abs": dict(whole)}, path)


def _named(path: Path, key: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UserError(f"{path}: {key} must name parameters")
    return found


def _difference(about: str, entry: Any, runs: list[np.ndarray]) -> Difference:
    if not isinstance(entry, dict) or not {"size", "index_steps", "values"} <= entry.keys():
        raise UserError(f"{about} must have size, index_steps and values")
    size, values = tuple(entry["size"]), entry["values"]
    if not isinstance(values, torch.Tensor) or values.dim() != 1 or not values.is_floating_point():
        raise UserError(f"{about}: values must be a tensor of one dimension")
    if values.dtype != torch.float64:
        values = values.float()
    if not values.isfinite().all():
        raise UserError(f"{about}: has values that are NaN or infinite")
    try:
        positions = positions_of_steps(_steps(entry["index_steps"], runs), size)
    except (ValueError, OverflowError, TypeError) as error:
        raise UserError(f"{about}: {error}") from error
    if len(positions) != len(values):
        raise UserError(f"{about}: {len(positions)} positions for {len(values)} values")
    return Difference(size, positions, values.numpy())


def _steps(found: Any, runs: list[np.ndarray]) -> np.ndarray:
    """A parameter's steps, with the runs that were taken out before reading in their places."""
    if isinstance(found, torch.Tensor):
        return found.numpy()
    if not isinstance(found, list):
        raise ValueError("index_steps must be a list of whole numbers")
    parts: list[np.ndarray] = [np.empty(0, np.int64)]
    loose: list[int] = []
    for step in found:
        if isinstance(step, str) and step.startswith(_STANDS_FOR_RUN):
            number = step.removeprefix(_STANDS_FOR_RUN)
            if not number.isdecimal() or int(number) >= len(runs):
                raise ValueError("index_steps must be a list of whole numbers")
            parts += [np.array(loose, np.int64), runs[int(number)]]
            loose = []
        elif type(step) is int:
            loose.append(step)
        else:
            raise ValueError("index_steps must be a list of whole numbers")
    return np.concatenate([*parts, np.array(loose, np.int64)])


def _without_runs(path: Path) -> tuple[io.BytesIO, list[np.ndarray]]:
    """A copy of torch's archive with a name in place of each long run of integers, and the runs."""
    runs: list[np.ndarray] = []
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as shorter:
        for record in archive.infolist():
            data = archive.read(record)
            if record.filename.endswith("/data.pkl"):
                data = _shortened(data, runs)
            shorter.writestr(record.filename, data)
    copy.seek(0)
    return copy, runs


def _shortened(data: bytes, runs: list[np.ndarray]) -> bytes:
    stream, parts, kept = io.BytesIO(data), [], 0
    for _ in pickletools.genops(stream):
        while match := _RUN.match(data, stream.tell()):
            name = f"{_STANDS_FOR_RUN}{len(runs)}".encode()
            runs.append(decode_run(match[0]))
            parts += [data[kept : match.start()], b"X" + len(name).to_bytes(4, "little") + name]
            kept = match.end()
            stream.seek(kept)
    return b"".join([*parts, data[kept:]])


def decode_run(run: bytes) -> np.ndarray:
    """A run of pickled integers, whose opcodes say how many bytes each has."""
    length = len(run)
    data = np.frombuffer(run + bytes(4), np.uint8)
    if length % 2 == 0 and (data[:length:2] == ord("K")).all():  # nearly always: bytes alone
        return data[1:length:2].astype(np.int64)
    following = np.minimum(np.arange(length + 1) + _BYTES[data[: length + 1]], length)
    # Where each begins, found by doubling: the first one, two, four … of them.
    begin = np.zeros(1, np.int64)
    while begin[-1] < length:
        begin = np.append(begin, following[begin])
        following = following[following]
    begin = begin[begin < length]
    size = _BYTES[data[begin]]
    numbers = data[begin + 1].astype(np.int64)
    for place in (1, 2, 3):
        numbers += np.where(size > 1 + place, data[begin + 1 + place], 0).astype(np.int64) << (8 * place)
    return np.where((size == 5) & (numbers >= 1 << 31), numbers - (1 << 32), numbers)


def _numpy_scalars() -> list[Any]:
    """What reads the one numpy number a parameter that published files have, by the names in the file.

    Functions of our own under numpy's names, of whatever version: they make a whole number and nothing else.
    """

    def scalar(kind: np.dtype, raw: bytes) -> int:
        if kind.kind not in "iu":
            raise ValueError("numpy's numbers may be whole ones alone")
        return int(np.frombuffer(raw, kind, count=1)[0])

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in {encoding}")
        return text.encode("latin1")

    def named(function: Any, module: str, name: str) -> Any:
        function.__module__, function.__qualname__, function.__name__ = module, name, name
        return function

    def newer(kind: np.dtype, raw: bytes) -> int:
        return scalar(kind, raw)

    return [
        named(newer, "numpy._core.multiarray", "scalar"),
        named(scalar, "numpy.core.multiarray", "scalar"),
        named(encode, "_codecs", "encode"),
        np.dtype,
        *{type(np.dtype(kind)) for kind in (np.int64, np.int32)},
    ]
