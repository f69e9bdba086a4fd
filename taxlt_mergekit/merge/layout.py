"""Whose tensors, head, config and tokenizer the output has: those of the task model.

mergekit merges models of one architecture. Here θ₀ and the language models are masked LMs (or share the task
model's architecture) and the task model may have a head of its own. So the output's tensors are listed from
the task model: what θ₀ has too is merged, what only the task model has is its head and is copied.
"""

import logging
import re
from dataclasses import dataclass, field

from mergekit.architecture import ModelArchitecture, ModuleDefinition, WeightInfo
from mergekit.architecture.auto import infer_architecture_info
from mergekit.architecture.json_definitions import JsonModuleArchitecture
from mergekit.common import ModelReference
from mergekit.options import MergeOptions
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.checkpoint import Checkpoint, aliases, merged_reference, tied_patterns
from taxlt_mergekit.merge.recipe import Cast

LOG = logging.getLogger(__name__)

# Constants that older transformers versions saved and newer ones compute.
_CONSTANTS = re.compile(r"(position_ids|inv_freq|masked_bias|attn\.bias|embeddings\.token_type_ids)$")


@dataclass(frozen=True)
class Layout:
    """Where each tensor of the output comes from.

    Attributes:
        architecture: mergekit's description of the output, in a fixed order.
        merged: tensors that θ₀ has too.
        head: tensors of the task model alone.
        zero: tensor → language models that lack it, where their vector counts as zero.
    """

    architecture: ModelArchitecture
    merged: list[str]
    head: list[str]
    zero: dict[str, list[ModelReference]]


def output_layout(cast: Cast, checkpoints: dict[ModelReference, Checkpoint], options: MergeOptions) -> Layout:
    """List the output's tensors and where each comes from.

    Raises:
        UserError: a tensor below the head is missing somewhere, so that something would be dropped.
    """
    task = checkpoints[cast.task]
    whole = {model: merged_reference(model, options) for model in cast.models}
    inferred = _quietly(infer_architecture_info, tuple(whole.values()), whole[cast.task], options)
    places = _Places(cast, checkpoints, tied_patterns(task))
    modules = {
        name: ModuleDefinition(architecture=places.module(inferred.modules[name].architecture))
        for name in sorted(inferred.modules)
    }
    if not places.merged:
        raise UserError(
            f"{cast.task}: shares no tensor with base_model {cast.base}; there is nothing to merge"
        )
    _check_left_out(task, {*places.merged, *places.head}, places.tied)
    return Layout(
        inferred.model_copy(update={"modules": modules}),
        sorted(places.merged),
        sorted(places.head),
        places.zero,
    )


@dataclass
class _Places:
    """Puts each tensor of the output into its place, or refuses it."""

    cast: Cast
    checkpoints: dict[ModelReference, Checkpoint]
    tied: list[str]
    merged: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    zero: dict[str, list[ModelReference]] = field(default_factory=dict)

    def module(self, inferred: JsonModuleArchitecture) -> JsonModuleArchitecture:
        """mergekit's description of a module, in a fixed order and without what the output lacks."""
        definition = inferred.definition
        layers = range(inferred.num_layers(self.checkpoints[self.cast.task].config))

        def placed(weights: list[WeightInfo], indices: range) -> list[WeightInfo]:
            found = [self._place(weight, indices) for weight in sorted(weights, key=lambda w: w.name)]
            return [weight for weight in found if weight is not None]

        templates = definition.layer_templates.model_copy(
            update={"weights": placed(definition.layer_templates.weights, layers)}
        )
        update = {
            "pre_weights": placed(definition.pre_weights, range(1)),
            "layer_templates": templates,
            # Slices of fewer layers must show in the output's config.
            "num_layers_config_key": "num_hidden_layers",
        }
        return JsonModuleArchitecture(definition=definition.model_copy(update=update))

    def _place(self, weight: WeightInfo, indices: range) -> WeightInfo | None:
        """Place a weight, or all layers of one, and say how mergekit is to look for it."""
        task = self.checkpoints[self.cast.task]
        names = [weight.name.replace("${layer_index}", str(index)) for index in indices]
        present = [name for name in names if task.find(name, task.prefix)]
        lacking = {
            name: [m for m in self.cast.models if not self.checkpoints[m].find(name, task.prefix)]
            for name in present
        }
        # Loading ties it to the tensor that it equals.
        kept = [n for n in present if not (lacking[n] and any(re.search(p, n) for p in self.tied))]
        for name in kept:
            if self.cast.base in lacking[name]:
                _check_head(name, lacking[name], self.cast, self.checkpoints)
                self.head.append(name)
                continue
            self.merged.append(name)
            if lacking[name]:
                _check_lacking(name, lacking[name], self.checkpoints, task)
                self.zero[name] = lacking[name]
        if not kept:
            return None
        everywhere = kept == names and not any(lacking[name] for name in kept)
        return _weight_info(weight, everywhere, self.checkpoints, task.prefix)


def check_shapes(
    layout: Layout, cast: Cast, checkpoints: dict[ModelReference, Checkpoint], except_vocabulary: bool
) -> None:
    """Refuse vectors whose tensors differ in shape, before weights are read.

    Args:
        except_vocabulary: the recipe aligns vocabularies, so tensors with a token axis may differ for now.
    """
    vocabulary = {w.name for w in layout.architecture.all_weights(None) if w.vocabulary_axis is not None}
    prefix = checkpoints[cast.task].prefix
    for name in layout.merged:
        if except_vocabulary and name in vocabulary:
            continue
        expected: tuple[int, ...] | None = None
        for model in cast.models:
            found = checkpoints[model].find(name, prefix)
            shape = checkpoints[model].shapes.get(found) if found else None
            if expected is None:
                expected = shape
            elif shape is not None and shape != expected:
                raise UserError(
                    f"{model}: tensor {name} has shape {list(shape)}, but {list(expected)} "
                    f"in base_model {cast.base}"
                )


def _is_head(name: str, task: Checkpoint) -> bool:
    # A pooler feeds the classifier and is missing in masked LMs, so it is trained and kept with the head.
    has_prefix = any(other.startswith(task.prefix) for other in task.shapes)
    return has_prefix and (not name.startswith(task.prefix) or ".pooler." in name)


def _check_head(
    name: str,
    lacking: list[ModelReference],
    cast: Cast,
    checkpoints: dict[ModelReference, Checkpoint],
) -> None:
    task, base = checkpoints[cast.task], checkpoints[cast.base]
    others = [model for model in cast.roles if model != cast.task and model not in lacking]
    if others:
        raise UserError(
            f"{cast.base}: base_model has no tensor {name}, but {others[0]} has; a vector needs both"
        )
    if base.architecture == task.architecture or not _is_head(name, task):
        raise UserError(
            f"{cast.base}: base_model ({base.architecture}) has no tensor {name}, which is part of the body "
            f"of {cast.task} ({task.architecture}); the two do not share one starting point"
        )


def _check_lacking(
    name: str,
    lacking: list[ModelReference],
    checkpoints: dict[ModelReference, Checkpoint],
    task: Checkpoint,
) -> None:
    if not _is_head(name, task):
        model = lacking[0]
        raise UserError(
            f"{model} ({checkpoints[model].architecture}): has no tensor {name}, which the task model and "
            "base_model have"
        )


def _check_left_out(task: Checkpoint, listed: set[str], tied: list[str]) -> None:
    """Say which tensors of the task model are not part of its architecture, hence not of the output."""
    if get_checkpoint_conversion_mapping(task.config.model_type):
        return  # the checkpoint's names are not the model's
    known = {task.find(name, task.prefix) for name in listed}
    left_out = [
        name
        for name in sorted(set(task.shapes) - known)
        if not _CONSTANTS.search(name) and not any(re.search(pattern, name) for pattern in tied)
    ]
    if left_out:
        LOG.warning(
            "%s: %d tensors are not part of %s and are left out: %s",
            task.model,
            len(left_out),
            task.architecture,
            ", ".join(left_out[:5]),
        )


def _weight_info(
    weight: WeightInfo,
    everywhere: bool,
    checkpoints: dict[ModelReference, Checkpoint],
    prefix: str,
) -> WeightInfo:
    """A weight as mergekit should look for it.

    mergekit 0.1.5 cannot plan a weight that is optional and has aliases, so aliases are given where needed
    and the weight is in all models.
    """
    others = tuple(aliases(weight.name, prefix)) if everywhere else ()
    plain = all(
        weight.name.replace("${layer_index}", "0") in checkpoint.shapes for checkpoint in checkpoints.values()
    )
    return WeightInfo(
        name=weight.name,
        optional=not everywhere,
        vocabulary_axis=weight.vocabulary_axis,
        aliases=None if plain or not others else others,
    )


def _quietly(function, *args):
    """Call a function of mergekit that reports its guesses on the root logger as warnings."""

    def is_no_guess(record: logging.LogRecord) -> bool:
        return record.module != "auto"

    root = logging.getLogger()
    root.addFilter(is_no_guess)
    try:
        return function(*args)
    finally:
        root.removeFilter(is_no_guess)
