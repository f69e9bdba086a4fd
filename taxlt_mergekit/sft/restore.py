"""From a sparse fine-tuning to a whole checkpoint: which tensor of θ₀ each entry means."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from mergekit.common import ModelReference
from mergekit.options import MergeOptions
from transformers.initialization import no_init_weights

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.checkpoint import Checkpoint, Skeleton, in_body, open_checkpoint
from taxlt_mergekit.merge.output import staging
from taxlt_mergekit.model_files import companions_folder, copy_companions
from taxlt_mergekit.sft.card import write as write_card
from taxlt_mergekit.sft.file import Difference, SparseFineTuning
from taxlt_mergekit.sft.weights import tensor_of, write_weights

XLMR_BASE_BYTES = 1_113_000_000  # a checkpoint of XLM-R base in float32
# Heads of tasks, in the order in which they are tried.
_HEADS = (
    transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
)


@dataclass
class Restored:
    """A checkpoint θ before it is written.

    Attributes:
        config: of the output.
        whole: tensor of the output → where its values come from: a name in θ₀'s files, or the tensor itself.
        changes: tensor of the output → what is added.
        left_out: tensors of the file that have no place here.
    """

    source: str
    base: Checkpoint
    config: Any
    whole: dict[str, str | torch.Tensor] = field(default_factory=dict)
    changes: dict[str, Difference] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """Parameters that the fine-tuning changed."""
        return sum(len(change.positions) for change in self.changes.values())


def open_base(model: str) -> Checkpoint:
    """θ₀, a folder or the hub's name."""
    return open_checkpoint(ModelReference.model_validate(model), MergeOptions())


def language(source: str, tuning: SparseFineTuning, base: Checkpoint) -> Restored:
    """θ_t or θ_s: θ₀'s own tensors with the differences, and its own masked-LM head where the file has one.

    Raises:
        UserError: the file does not fit θ₀.
    """
    found = Restored(source, base, copy.deepcopy(base.config))
    found.whole = {name: name for name in base.headers}
    diffs = _by_place(source, base.skeleton, tuning.differences, lambda change: change)
    for name in base.headers:
        places = _places(base, name)
        if hit := next((place for place in places if place in diffs), None):
            given, change = diffs[hit]
            _check_size(source, given, change.size, base, name)
            found.changes[name] = change
    _check_used(source, base, diffs, {place for name in base.headers for place in _places(base, name)})
    whole = _by_place(source, base.skeleton, tuning.whole, lambda tensor: tensor)
    for name in base.headers:
        if hit := next((place for place in _places(base, name) if place in whole), None):
            given, tensor = whole[hit]
            if tuple(tensor.shape) == base.headers[name].shape:
                found.whole[name] = tensor
                found.changes.pop(name, None)
                continue
            if in_body(hit):
                _check_size(source, given, tuple(tensor.shape), base, name)
    taken = {id(tensor) for tensor in found.whole.values()}
    found.left_out = sorted(name for name, tensor in tuning.whole.items() if id(tensor) not in taken)
    return found


def task(source: str, tuning: SparseFineTuning, base: Checkpoint, labels: Sequence[str] | None) -> Restored:
    """θ_T: θ₀'s body with the differences, and the head that the file holds.

    Args:
        labels: names of the head's classes, in the order of their numbers.

    Raises:
        UserError: the file has no head that transformers knows, or does not fit θ₀ or the labels.
    """
    model, skeleton = _classifier(source, tuning, base, labels)
    found = Restored(source, base, model.config)
    diffs = _by_place(source, skeleton, tuning.differences, lambda change: change)
    whole = _by_place(source, skeleton, tuning.whole, lambda tensor: tensor)
    places = set()
    for name in _saved(model):
        own = skeleton.places_of(name)
        places |= set(own)
        if hit := next((place for place in own if place in whole), None):
            found.whole[name] = whole[hit][1]
            continue
        start = next((base.places[place] for place in own if in_body(place) and place in base.places), None)
        if start is None:
            raise UserError(
                f"{source}: neither it nor {base.model} has {name}, a part of {type(model).__name__}"
            )
        found.whole[name] = start
        if hit := next((place for place in own if place in diffs), None):
            given, change = diffs[hit]
            _check_size(source, given, change.size, base, start)
            found.changes[name] = change
    _check_used(source, base, diffs, places)
    found.left_out = sorted(given for place, (given, _) in whole.items() if place not in places)
    return found


def write(restored: Restored, output: Path, name: str, lang: str | None) -> None:
    """Write θ with config, tokenizer and card; nothing is left where that fails.

    Raises:
        UserError: the folder cannot be written.
    """
    base = restored.base

    def tensors():
        for key, value in restored.whole.items():
            tensor = tensor_of(base, value) if isinstance(value, str) else value.float().contiguous()
            yield key, tensor, restored.changes.get(key)

    with staging(str(output)) as folder, translated(f"{output}: cannot be written"):
        write_weights(folder, tensors(), restored.whole)
        restored.config.dtype = torch.float32
        restored.config.save_pretrained(folder)
        reference = base.model.model
        copy_companions(companions_folder(reference.path, reference.revision, None), folder)
        card = write_card(
            name,
            restored.source,
            str(base.model),
            restored.entries,
            _total(restored),
            restored.left_out,
            lang,
        )
        Path(folder, "README.md").write_text(card, encoding="utf-8")


def _total(restored: Restored) -> int:
    headers = restored.base.headers
    shapes = [
        headers[value].shape if isinstance(value, str) else tuple(value.shape)
        for value in restored.whole.values()
    ]
    return sum(torch.Size(shape).numel() for shape in shapes)


def _places(base: Checkpoint, name: str) -> list[str]:
    return base.skeleton.places_of(name.removeprefix(base.wrapper))


def _by_place(source: str, skeleton: Skeleton, given: dict[str, Any], keep: Callable) -> dict[str, tuple]:
    found: dict[str, tuple] = {}
    for name, value in given.items():
        place = next(iter(skeleton.twins(name)))
        if place in found:
            raise UserError(
                f"{source}: {found[place][0]} and {name} are one parameter; which holds is unclear"
            )
        found[place] = (name, keep(value))
    return found


def _check_size(source: str, given: str, size: Sequence[int], base: Checkpoint, name: str) -> None:
    header = base.headers[name]
    if tuple(size) != header.shape or not header.floating:
        raise UserError(
            f"{source}: {given} is a difference of size {list(size)}, but {base.model} has {name} of size "
            f"{list(header.shape)}; it was trained from another model"
        )


def _check_used(source: str, base: Checkpoint, diffs: dict[str, tuple], places: set[str]) -> None:
    if strangers := sorted(name for place, (name, _) in diffs.items() if place not in places):
        size = list(next(change.size for name, change in diffs.values() if name == strangers[0]))
        raise UserError(
            f"{source}: {strangers[0]} (size {size}) is a difference to a parameter that {base.model} "
            f"({base.architecture}) does not have; it was trained from another model"
        )


def _saved(model: Any) -> list[str]:
    """The tensors that transformers saves: of tied ones the first."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return [name for name in model.state_dict() if name not in tied]


def _classifier(
    source: str, tuning: SparseFineTuning, base: Checkpoint, labels: Sequence[str] | None
) -> tuple[Any, Skeleton]:
    """The class, without weights, whose head is the one in the file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tuning.whole.items()}
    if not shapes:
        raise UserError(
            f"{source}: has no head (abs is empty), so it is no task's; give --lang for a language"
        )
    counts = sorted({shape[0] for shape in shapes.values() if len(shape) == 1})
    for kind in _HEADS:
        if type(base.config) not in kind:
            continue
        for count in counts:
            config = copy.deepcopy(base.config)
            config.num_labels = count
            with (
                translated(f"{base.model}: transformers cannot build a classifier of its config"),
                torch.device("meta"),
                no_init_weights(),
            ):
                model = kind[type(config)](config)
            model.tie_weights()
            skeleton = Skeleton(model)
            head = {
                skeleton.place(name): tuple(value.shape)
                for name, value in model.state_dict().items()
                if not in_body(skeleton.place(name))
            }
            own = {skeleton.place(name): shape for name, shape in shapes.items()}
            if head and all(own.get(place) == shape for place, shape in head.items()):
                _name_labels(source, model, count, labels)
                return model, skeleton
    shown = ", ".join(f"{name} {list(shape)}" for name, shape in list(shapes.items())[:4])
    raise UserError(
        f"{source}: its head ({shown}) is none that transformers has for {base.model} "
        f"({base.config.model_type}): sequence or token classification, or question answering"
    )


def _name_labels(source: str, model: Any, count: int, labels: Sequence[str] | None) -> None:
    model.config.architectures = [type(model).__name__]
    if labels is None:
        return
    if len(labels) != count:
        raise UserError(
            f"--labels names {len(labels)} ({', '.join(labels)}), but the head in {source} has {count}"
        )
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
