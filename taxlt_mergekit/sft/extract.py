"""From a checkpoint to a sparse fine-tuning: what differs from θ₀, and heads whole."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.checkpoint import Checkpoint, in_body
from taxlt_mergekit.merge.output import staging
from taxlt_mergekit.sft.coding import exact_differences, steps_of_positions
from taxlt_mergekit.sft.file import NAME
from taxlt_mergekit.sft.file import write as write_file
from taxlt_mergekit.sft.weights import tensor_of

_BLOCK = 1 << 24  # entries compared at a time


@dataclass
class Extracted:
    """What a file will hold.

    Attributes:
        entries: parameter → size, steps, values.
        whole: parameter → tensor.
        inexact: parameters of the body that are in `whole` because no difference restores them.
    """

    entries: dict[str, tuple[tuple[int, ...], np.ndarray, np.ndarray]] = field(default_factory=dict)
    whole: dict[str, torch.Tensor] = field(default_factory=dict)
    inexact: list[str] = field(default_factory=list)

    @property
    def changed(self) -> int:
        return sum(len(values) for _, _, values in self.entries.values())


def extract(model: Checkpoint, base: Checkpoint) -> Extracted:
    """The differences of a checkpoint's body to θ₀'s; what θ₀ lacks, and heads that changed, whole.

    A language model's own head goes in whole too: the authors' library applies differences to classifiers,
    which do not have it, and leaves whole tensors out.

    Raises:
        UserError: a tensor of the body has another size in θ₀, or nothing differs.
    """
    found, seen = Extracted(), set()
    for name, header in model.headers.items():
        bare = name.removeprefix(model.wrapper)
        places = model.skeleton.places_of(bare)
        group = min(places)
        if group in seen or not header.floating:
            continue
        seen.add(group)
        given = model.skeleton.in_model(bare) or bare
        end = tensor_of(model, name)
        if not end.isfinite().all():
            raise UserError(f"{model.model}: tensor {name} has values that are NaN or infinite")
        source = next((base.places[place] for place in places if place in base.places), None)
        if source is None or (not in_body(places[0]) and model.architecture != base.architecture):
            found.whole[given] = end
            continue
        start = tensor_of(base, source)
        if start.shape != end.shape:
            raise UserError(
                f"{model.model}: tensor {name} has shape {list(end.shape)}, but {list(start.shape)} in "
                f"{base.model}; a difference needs equal ones"
            )
        if not in_body(places[0]):
            if not torch.equal(start, end):
                found.whole[given] = end
            continue
        _compare(found, given, start.numpy(), end.numpy())
    if not found.entries and not found.whole:
        raise UserError(f"{model.model}: is equal to {base.model}; there is nothing to export")
    return found


def write(found: Extracted, out: Path) -> int:
    """Write the file into a folder; returns its bytes."""
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; choose another folder")
    with staging(str(out)) as folder, translated(f"{out}: cannot be written"):
        write_file(Path(folder, NAME), found.entries, found.whole)
    return (out / NAME).stat().st_size


def _compare(found: Extracted, name: str, start: np.ndarray, end: np.ndarray) -> None:
    size, start, end = start.shape, np.ascontiguousarray(start).ravel(), np.ascontiguousarray(end).ravel()
    # By their bits, so that what is restored is the same to the sign of a zero.
    bits = np.int32
    blocks = range(0, math.prod(size), _BLOCK)
    changed = [
        at + np.flatnonzero(start[at : at + _BLOCK].view(bits) != end[at : at + _BLOCK].view(bits))
        for at in blocks
    ]
    positions = np.concatenate(changed) if changed else np.empty(0, np.int64)
    if len(positions) == 0:
        return
    steps, order = steps_of_positions(positions, size)
    where = positions[order]
    values = exact_differences(start[where], end[where])
    if values is None:
        found.whole[name] = torch.from_numpy(end.reshape(size))
        found.inexact.append(name)
    else:
        found.entries[name] = (size, steps, values)
