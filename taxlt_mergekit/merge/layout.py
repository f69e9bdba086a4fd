"""Whose tensors, head, config and tokenizer the output has: those of the task model.

mergekit merges models of one architecture. Here θ₀ and the language models are masked LMs (or share the task
model's architecture) and the task model may have a head of its own. So the task checkpoint's own files list
the output's tensors: what θ₀ has in the same place is merged, the rest is the task model's alone and copied.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass

from mergekit.architecture import ModelArchitecture, ModuleArchitecture, ModuleDefinition, WeightInfo
from mergekit.architecture.conversion import can_convert_checkpoint_keys
from mergekit.common import ModelReference

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.checkpoint import Checkpoint, in_body
from taxlt_mergekit.merge.recipe import Cast

LOG = logging.getLogger(__name__)

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Layout:
    """Where each tensor of the output comes from.

    Attributes:
        architecture: mergekit's description of the output, in a fixed order.
        merged: tensors that θ₀ has too, or that all models have.
        head: tensors of the task model alone, which are copied.
        averaged: those of the head that several task models have, which are merged among them.
        sources: model → tensor of the output → the name under which that model has it, if it has it.
    """

    architecture: ModelArchitecture
    merged: frozenset[str]
    head: list[str]
    sources: dict[ModelReference, dict[str, str]]
    averaged: frozenset[str] = frozenset()

    def zero(self) -> dict[ModelReference, list[str]]:
        """Language models that lack merged tensors, where their vector counts as zero."""
        lacking = {m: sorted(self.merged - found.keys()) for m, found in self.sources.items()}
        return {model: names for model, names in lacking.items() if names}


def output_layout(
    cast: Cast, checkpoints: dict[ModelReference, Checkpoint], body_of_all: bool = False
) -> Layout:
    """List the output's tensors and where each comes from.

    Args:
        body_of_all: merged is what all models have; else what θ₀ and the task model have, and the vector of
            a language model that lacks one of these counts as zero there.

    Raises:
        UserError: a tensor of the body is missing somewhere, so that something would be dropped.
    """
    task, base = checkpoints[cast.task], checkpoints[cast.base]
    if task.wrapper:
        raise UserError(
            f"{cast.task}: its tensors are called {task.wrapper}…, so that transformers would not find them; "
            "save the model inside the wrapper"
        )
    for other in checkpoints.values():
        _check_family(other, task)
    sources = {model: _sources(task, checkpoints[model]) for model in cast.models}
    # Constants that older versions of transformers saved have a tensor in no model.
    alike = base.headers.keys() if base.architecture == task.architecture else frozenset()
    owned = {n for n in task.headers if n in alike or task.skeleton.fused_place(n) in task.skeleton.places}
    merged = frozenset(n for n in owned & sources[cast.base].keys() if task.headers[n].floating)
    if not merged:
        raise UserError(
            f"{cast.task}: shares no tensor with {cast.shown_base}, which has neither "
            f"{min(task.headers)} nor any other of them; there is nothing to merge"
        )
    head = sorted(task.headers.keys() - merged)
    if missing := _expected(base, task, {name for name in head if name not in sources[cast.base]}):
        raise UserError(
            f"{cast.base}: {'base_model ' * cast.names_base}({base.architecture}) has no tensor "
            f"{missing[0]}, which is part of the body of {cast.task} ({task.architecture}); the two do not "
            "share one starting point"
        )
    for model in cast.roles:
        if model != cast.task:
            _check_language_model(checkpoints[model], base, task, merged - sources[model].keys())
    if body_of_all:
        merged = merged.intersection(*(sources[model] for model in cast.models))
        head = sorted(task.headers.keys() - merged)
    averaged = _averaged_head(cast, checkpoints, head, sources)
    head = [name for name in head if name not in averaged]
    return Layout(_architecture(task), merged, head, sources, averaged)


def _averaged_head(
    cast: Cast,
    checkpoints: dict[ModelReference, Checkpoint],
    head: list[str],
    sources: dict[ModelReference, dict[str, str]],
) -> frozenset[str]:
    """The tensors of the head that are merged among several task models; none where there is one.

    Raises:
        UserError: heads of other labels or shapes, or one that another task model lacks.
    """
    task = checkpoints[cast.task]
    averaged = [name for name in head if task.headers[name].floating]
    for model in cast.tasks[1:]:
        other = checkpoints[model]
        if other.architecture != task.architecture:
            raise UserError(
                f"{model}: is a {other.architecture}, but {cast.task} a {task.architecture}; heads of "
                "several task models are averaged where all are of one kind"
            )
        if (there := _labels(other)) != (here := _labels(task)):
            raise UserError(
                f"{model}: has the labels {', '.join(there)}, but {cast.task} has {', '.join(here)}; heads "
                "of several task models are averaged where labels and their order agree"
            )
        for name in averaged:
            header = other.headers.get(sources[model].get(name, ""))
            if header is None or header.shape != task.headers[name].shape:
                found = "is not there" if header is None else f"has shape {list(header.shape)}"
                raise UserError(
                    f"{model}: tensor {name} of the head {found}, but {list(task.headers[name].shape)} in "
                    f"{cast.task}; heads of several task models are averaged where all have one"
                )
    if len(cast.tasks) > 1 and averaged and cast.adds_base:
        raise UserError(
            f"{cast.tasks[1]}: a second task model beside {cast.task}; their heads have no vectors, since "
            f"base_model {cast.base} has no such head; merge the task models first, by xlt_linear say, and "
            "give that model role: task"
        )
    return frozenset(averaged) if len(cast.tasks) > 1 else frozenset()


def _labels(model: Checkpoint) -> list[str]:
    names = model.config.id2label or {}
    return [str(names[index]) for index in sorted(names)]


def check_shapes(
    layout: Layout, cast: Cast, checkpoints: dict[ModelReference, Checkpoint], except_vocabulary: bool
) -> None:
    """Refuse vectors whose tensors differ in shape, before weights are read.

    Args:
        except_vocabulary: the recipe aligns vocabularies, so tensors with a token axis may differ for now.
    """
    skeleton = checkpoints[cast.task].skeleton
    for name in sorted(layout.merged):
        counts_pieces = skeleton.vocabulary_axis(name) is not None
        if except_vocabulary and counts_pieces:
            continue
        expected: tuple[int, ...] | None = None
        for model in cast.models:
            header = checkpoints[model].headers.get(layout.sources[model].get(name, ""))
            if header is None:  # its vector is zero there, or mergekit makes the tensor of several
                continue
            expected = expected or header.shape
            if header.shape != expected:
                road = (
                    "; give base_model the same vocabulary before training starts from it, or let the recipe "
                    "align them with tokenizer: {source: …}"
                )
                raise UserError(
                    f"{model}: tensor {name} has shape {list(header.shape)}, but {list(expected)} "
                    f"in {cast.shown_base}{road if counts_pieces else ''}"
                )


def _check_family(model: Checkpoint, task: Checkpoint) -> None:
    """Refuse a model of another family, whose tensors may have the same names below the base model."""
    if (
        model.config.model_type != task.config.model_type
        and model.skeleton.base_model_prefix != task.skeleton.base_model_prefix
    ):
        raise UserError(
            f"{model.model}: is of the family {model.config.model_type}, but the task model {task.model} of "
            f"{task.config.model_type}; vectors add up within one family"
        )


def _sources(task: Checkpoint, other: Checkpoint) -> dict[str, str]:
    """Tensor of the output → its name in another checkpoint's files."""
    found = {}
    for name in task.headers:
        if other.architecture == task.architecture and name in other.headers:
            found[name] = name
            continue
        places = task.skeleton.places_of(name)
        if source := next((other.places[place] for place in places if place in other.places), None):
            found[name] = source
        elif name not in other.headers and can_convert_checkpoint_keys(
            other.config.model_type, set(other.headers), name
        ):
            found[name] = name  # mergekit makes it of several when it loads them
    return found


def _expected(model: Checkpoint, other: Checkpoint, names: Set[str]) -> list[str]:
    """Those of another checkpoint's tensors that a model of this class has too, at that other's size.

    A pooler, or a classifier, is no part of a masked language model however many layers it has; a third layer
    is, though a checkpoint of two layers lacks it.
    """
    if not names:
        return []
    try:
        places = model.skeleton_under(other).places
    except UserError:  # a class of another kind of config
        places = model.skeleton.places
    return sorted(name for name in names if other.skeleton.fused_place(name) in places)


def _without_a_place(model: Checkpoint, other: Checkpoint) -> set[str]:
    """Tensors of a model's body that are in none of another's places, under no name that they are tied to."""
    body = {name for place, name in model.places.items() if in_body(place)}
    return body - {name for place, name in model.places.items() if place in other.places}


def _check_language_model(model: Checkpoint, base: Checkpoint, task: Checkpoint, lacking: Set[str]) -> None:
    """Refuse a language model that has less than θ₀ and θ_T, or more than θ₀; warn where θ_T has less."""
    if missing := _expected(model, task, lacking):
        raise UserError(
            f"{model.model} ({model.architecture}): has no tensor {missing[0]}, which the task model and "
            "base_model have"
        )
    more = _without_a_place(model, base)
    if new := _expected(base, model, more):
        raise UserError(
            f"{model.model}: has a tensor {new[0]}, which base_model {base.model} lacks; a vector needs both"
        )
    if lost := _expected(task, model, _without_a_place(model, task) - more):
        LOG.warning(
            "%s: %d of its tensors have no place in the task model and are left out: %s",
            model.model,
            len(lost),
            ", ".join(lost[:3]) + (", …" if len(lost) > 3 else ""),
        )


class _Listed(ModuleArchitecture):
    """A module of a model, with its tensors listed one by one: those outside the layers, and each layer's."""

    def __init__(self, loose: list[WeightInfo], layers: dict[int, list[WeightInfo]]):
        self._loose, self._layers = loose, layers

    def num_layers(self, config: object) -> int:
        return max(self._layers, default=-1) + 1

    def pre_weights(self, config: object) -> list[WeightInfo]:
        return self._loose

    def post_weights(self, config: object) -> list[WeightInfo]:
        return []

    def layer_weights(self, index: int, config: object) -> list[WeightInfo]:
        """Those of a layer; slices may ask for more layers than there are, which then are like the last."""
        known = min(index, self.num_layers(config) - 1)
        if known == index:
            return self._layers.get(index, [])
        return [
            weight.model_copy(update={"name": _LAYER.sub(f".{index}.", weight.name, count=1)})
            for weight in self._layers.get(known, [])
        ]


def _architecture(task: Checkpoint) -> ModelArchitecture:
    """mergekit's description of the output: a module for each stack of layers; one where there is one."""
    loose: list[WeightInfo] = []
    stacks: dict[str, dict[int, list[WeightInfo]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(task.headers):
        weight = WeightInfo(name=name, vocabulary_axis=task.skeleton.vocabulary_axis(name))
        if match := _LAYER.search(name):
            stacks[name[: match.start()]][int(match[1])].append(weight)
        else:
            loose.append(weight)
    if len(stacks) == 1:
        modules = {"default": _Listed(loose, *stacks.values())}
    else:
        modules = {name: _Listed([], layers) for name, layers in stacks.items()}
        modules["default"] = _Listed(loose, {})
    return ModelArchitecture(
        modules={name: ModuleDefinition(architecture=modules[name]) for name in sorted(modules)},
        architectures=[],
        model_type="",
    )
