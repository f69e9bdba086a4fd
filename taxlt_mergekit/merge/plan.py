"""A merge in progress, and mergekit's plan of it completed by what one tensor alone cannot know."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tqdm
from mergekit.architecture import WeightInfo
from mergekit.common import ImmutableMap, ModelReference, dtype_from_name
from mergekit.config import ConfigReader, InputSliceDefinition, MergeConfiguration
from mergekit.graph import Executor, Task
from mergekit.io.tasks import GatherTensors, SaveTensor
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from pydantic import Field, InstanceOf
from torch import Tensor

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.cutoffs import global_cutoffs
from taxlt_mergekit.merge.layout import Layout
from taxlt_mergekit.merge.methods.base import Record, refuse_non_finite, refuse_overflow
from taxlt_mergekit.merge.methods.table import METHODS
from taxlt_mergekit.merge.methods.vectors import one_density
from taxlt_mergekit.merge.recipe import Cast
from taxlt_mergekit.merge.writer import stream_output
from taxlt_mergekit.sparsity import Cutoff, NotFiniteError, Select


@dataclass
class Given:
    """What the tensors of one vector were given: several λ or densities where the recipe has filters.

    Attributes:
        values: name of a parameter → its values.
    """

    role: str
    values: dict[str, set[Any]] = field(default_factory=dict)


@dataclass
class Merge:
    """A merge in progress.

    Attributes:
        name: of the output folder.
        recipe: what is planned: `base_model` is θ₀, and inputs keep their type until they are added up.
        cast: who plays which part.
        layout: where each tensor of the output comes from.
        seed: of methods that draw at random.
        folders: model → the folder of its files.
        given: model → the parameters of its tensors; filled when the merge is planned.
        record: norms of the vectors; filled while tensors are merged.
    """

    name: str
    recipe: MergeConfiguration
    cast: Cast
    layout: Layout
    seed: int = 0
    folders: dict[ModelReference, str] = field(default_factory=dict)
    given: dict[ModelReference, Given] = field(default_factory=dict)
    record: Record = field(default_factory=Record)


class OutputConfiguration(MergeConfiguration):
    """A merge as mergekit's `run_merge` sees it: `base_model` is θ_T, the donor of all but weights."""

    merge: InstanceOf[Merge] = Field(exclude=True)


class CopyHead(Task[Tensor]):
    """A tensor of the task model alone, in the output's type."""

    gather_tensors: Any
    name: str
    out_dtype: str | None

    def arguments(self) -> dict[str, Task]:
        return {"tensors": self.gather_tensors}

    def group_label(self) -> str | None:
        return self.gather_tensors.group_label()

    def execute(self, tensors: dict[ModelReference, Tensor], **_kwargs: Any) -> Tensor:
        ((task, tensor),) = tensors.items()
        dtype = dtype_from_name(self.out_dtype)
        if dtype is None or not tensor.is_floating_point():
            return tensor
        return refuse_overflow(tensor.to(dtype), str(task), self.name)


class VectorPlanner(MergePlanner):
    """mergekit's planner for a merge of ours: planned with θ₀ as base, completed, written as it goes."""

    def __init__(self, merge: Merge, options: MergeOptions, out_model_config: Any):
        super().__init__(merge.recipe, merge.layout.architecture, options, out_model_config)
        self._merge = merge

    def plan_to_disk(self, out_path: str) -> list[Task]:
        # Every tensor comes in its final type; a second conversion would make numbers of integer buffers.
        tasks = [
            task.model_copy(update={"dtype": None}) if isinstance(task, SaveTensor) else task
            for task in super().plan_to_disk(out_path)
        ]
        return stream_output(tasks)

    def plan_layer(
        self,
        sources: list[InputSliceDefinition],
        layer_offset: int,
        t: float,
        cfg_reader: ConfigReader,
        module_name: str,
    ) -> None:
        """mergekit's, which takes all layers for alike; a recipe's slices may pair any two."""
        weights = self._out_module_arch(module_name).layer_weights
        here = self._current_module_layers
        for source in sources:
            there = source.layer_range[0] + layer_offset
            if len(weights(there)) != len(weights(here)):
                raise UserError(
                    f"{source.model}: layer {there} has other tensors than layer {here}, where a slice of "
                    "the recipe puts it"
                )
        super().plan_layer(sources, layer_offset, t, cfg_reader, module_name)

    def plan_body(self) -> list[tuple[str, ExecuteMergeMethodTask]]:
        """Each tensor that is merged, and the task that merges it; the head is left out.

        In place of `plan_in_memory`, which wraps each task in one that pydantic 2.14 refuses to make.
        """
        self._plan()
        return [(weight.name, task) for weight, task in _body(self._tensors)]

    def _plan(self) -> None:
        super()._plan()
        placed = [(weight, _placed(self._merge, task)) for weight, task in self._tensors]
        self._tensors: Planned = _completed(self._merge, placed)


def planned_recipe(recipe: MergeConfiguration, cast: Cast) -> MergeConfiguration:
    """A recipe as `VectorPlanner` takes it.

    With one rounding, at the end, whatever `dtype` says, where the method sums in a type of its own; without
    base_model where the method has no use for one.
    """
    keeps_dtype = METHODS[recipe.merge_method].keeps_dtype
    update: dict[str, Any] = {
        "dtype": recipe.dtype if keeps_dtype else None,
        "out_dtype": recipe.out_dtype or recipe.dtype,
    }
    planned = recipe.model_copy(update=update, deep=True)
    base = cast.base
    if not cast.adds_base:
        planned.base_model = None
        return planned
    slices = [*(planned.slices or [])]
    for module in (planned.modules or {}).values():
        slices += module.slices or []
    for piece in slices:  # θ₀ takes part in every slice, listed or not, as it does under `models`
        if base not in [source.model for source in piece.sources]:
            piece.sources.append(InputSliceDefinition(model=base, layer_range=piece.sources[0].layer_range))
    return planned


def loads(gather: GatherTensors) -> dict[ModelReference, Task]:
    """Model → the task that reads its tensor."""
    return dict(zip(gather.weight_info, gather.arguments().values(), strict=True))


def find_global_cutoffs(
    pairs: Callable[[], Iterable[tuple[str, Tensor, Tensor]]],
    base: ModelReference,
    model: ModelReference,
    density: float,
    select: Select,
) -> dict[str, Cutoff]:
    """`cutoffs.global_cutoffs` of a named vector.

    Raises:
        UserError: a NaN or an infinity, with the names of its tensor and model.
    """
    try:
        return global_cutoffs(pairs, density, select)
    except NotFiniteError:
        for name, *pair in pairs():
            refuse_non_finite(dict(zip(map(str, (base, model)), pair, strict=True)), name)
        raise


Body = list[tuple[WeightInfo, ExecuteMergeMethodTask]]
Planned = list[tuple[WeightInfo, ExecuteMergeMethodTask | CopyHead]]


def _placed(merge: Merge, task: ExecuteMergeMethodTask) -> ExecuteMergeMethodTask | CopyHead:
    """A planned tensor, looked for in each model under that model's own name; a head in θ_T alone."""
    cast, sources = merge.cast, merge.layout.sources
    # Where the recipe aligns vocabularies, that is a task around the one that reads.
    outer = None if isinstance(task.gather_tensors, GatherTensors) else task.gather_tensors
    gather = outer.gather_tensors if outer else task.gather_tensors
    infos = dict(gather.weight_info.items())
    place = infos[cast.base if cast.base in infos else cast.task].name
    is_merged, is_averaged = place in merge.layout.merged, place in merge.layout.averaged
    taken = cast.models if is_merged else cast.tasks if is_averaged else [cast.task]
    named = {
        model: info.model_copy(update={"name": sources[model][info.name]})
        for model, info in infos.items()
        if info.name in sources[model] and model in taken
    }
    update: dict[str, Any] = {"weight_info": ImmutableMap(named)}
    # A head that is copied is rounded once.
    update |= {} if is_merged or is_averaged else {"dtype": None}
    gather = gather.model_copy(update=update)
    gather = outer.model_copy(update={"gather_tensors": gather}) if outer else gather
    if is_merged:
        return task.model_copy(update={"gather_tensors": gather})
    if is_averaged:
        return task.model_copy(update={"gather_tensors": gather, "model_order": tuple(cast.tasks)})
    return CopyHead(gather_tensors=gather, name=task.output_weight.name, out_dtype=merge.recipe.out_dtype)


def _completed(merge: Merge, planned: Planned) -> Planned:
    """Planned merges with the output's type, the record to fill and, where the scope is global, cutoffs."""
    body = _body(planned)
    _note_what_is_given(merge, body)
    cutoffs = _global_cutoffs(merge, body)

    def completed(name: str, task: ExecuteMergeMethodTask | CopyHead) -> ExecuteMergeMethodTask | CopyHead:
        if isinstance(task, CopyHead):
            return task
        more: dict[str, Any] = {"record": merge.record, "cutoffs": cutoffs.get(name, {})}
        sources = {m: own[name] for m, own in merge.layout.sources.items() if name in own}
        places = {m: (merge.folders[m], own) for m, own in sources.items() if m in merge.folders}
        more |= METHODS[merge.recipe.merge_method].for_tensor(name, merge.seed, places)
        parameters = ImmutableMap(dict(task.parameters.items()) | more)
        return task.model_copy(update={"parameters": parameters, "out_dtype": merge.recipe.out_dtype})

    return [(weight, completed(weight.name, task)) for weight, task in planned]


def _body(planned: Planned) -> Body:
    """What is merged: all but the head."""
    return [(weight, task) for weight, task in planned if isinstance(task, ExecuteMergeMethodTask)]


def _note_what_is_given(merge: Merge, body: Body) -> None:
    method = METHODS[merge.recipe.merge_method]
    for _, task in body:
        for model, role in merge.cast.roles.items():
            if model in task.input_parameters:
                given = merge.given.setdefault(model, Given(role))
                for name, value in method.given(model, task.input_parameters[model]).items():
                    given.values.setdefault(name, set()).add(value)


def _global_cutoffs(merge: Merge, body: Body) -> dict[str, dict[ModelReference, Cutoff]]:
    """Tensor → model → cutoff; empty under scope `tensor`, which needs no other tensor."""
    shared = dict(body[0][1].parameters.items()) if body else {}
    if shared.get("scope") != "global":
        return {}
    cutoffs: dict[str, dict[ModelReference, Cutoff]] = {}
    densities = {
        model: one_density(str(model), given.values["density"]) for model, given in merge.given.items()
    }
    sparse = {model: density for model, density in densities.items() if density < 1}
    for model in tqdm.tqdm(sparse, desc="Finding global thresholds", disable=not sparse):
        pairs = partial(_pairs, body, merge.cast.base, model)
        select = shared["select"]
        found = find_global_cutoffs(pairs, merge.cast.base, model, sparse[model], select)
        for name, cutoff in found.items():
            cutoffs.setdefault(name, {})[model] = cutoff
    return cutoffs


def _pairs(body: Body, base: ModelReference, model: ModelReference) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, θ₀'s tensor and the model's of each tensor that both have."""
    for weight, task in body:
        tensors = _loaded(task.gather_tensors, (base, model))
        if len(tensors) == 2 and tensors[base].is_floating_point():
            yield weight.name, tensors[base], tensors[model]


def _loaded(gather: Any, models: tuple[ModelReference, ...]) -> dict[ModelReference, Tensor]:
    """The tensors of some models for one output tensor, as the planned merge will get them."""
    if isinstance(gather, GatherTensors):
        tasks = loads(gather)
        found = {model: tasks[model].execute() for model in models if model in tasks}
        return {model: tensor for model, tensor in found.items() if tensor is not None}
    (_, tensors), *_ = Executor([gather]).run(quiet=True)  # the recipe aligns vocabularies
    return {model: tensors[model] for model in models if model in tensors}
