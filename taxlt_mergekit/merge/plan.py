"""TODO"""

from collections.abc import Callable, Iterable
from typing import Any

import tqdm
from mergekit.common import ImmutableMap, ModelReference
from mergekit.config import InputSliceDefinition, MergeConfiguration
from mergekit.graph import Executor
from mergekit.io.tasks import GatherTensors, LoaderCache
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from pydantic import PrivateAttr
from torch import Tensor

from taxlt_mergekit.merge.cutoffs import global_cutoffs
from taxlt_mergekit.merge.layout import Layout
from taxlt_mergekit.merge.method import (
    METHODS,
    Record,
    one_density,
    refuse_non_finite,
    signed_weight,
)
from taxlt_mergekit.merge.recipe import Cast
from taxlt_mergekit.merge.sparsity import Cutoff, NotFiniteError, Select

# Bytes; reopening a file costs about a millisecond, so it is done for few tensors.
_LARGE = 16 << 20


class OutputConfiguration(MergeConfiguration):
    """A recipe as `run_merge` sees it: `base_model` is the task model, the donor of all but weights.

    `recipe`, which the planner sees, keeps θ₀ as `base_model`.
    """

    _recipe: MergeConfiguration = PrivateAttr()
    _cast: Cast = PrivateAttr()
    _layout: Layout = PrivateAttr()
    _record: Record = PrivateAttr(default_factory=Record)
    _terms: dict[ModelReference, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _name: str = PrivateAttr()


def complete_plan(output: OutputConfiguration, planned: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Give mergekit's planned merges what one tensor by itself cannot know.

    Args:
        planned: mergekit's (weight, task that merges it), whose parameters are resolved.

    Returns:
        The same with the output's type, the record to fill and, where the scope is global, the cutoffs.
    """
    cast, method = output._cast, METHODS[output.merge_method]
    densities: dict[ModelReference, set[float]] = {}
    for weight, task in planned:
        for model, role in cast.roles.items():
            if model not in task.input_parameters or weight.name in output._layout.head:
                continue
            bound = task.input_parameters[model]
            signed_weight(str(model), bound["role"], bound["weight"], method.source_sign)
            densities.setdefault(model, set()).add(bound["density"])
            output._terms.setdefault(model, {"role": role, "weight": set(), "density": set()})
            output._terms[model]["weight"].add(1.0 if bound["weight"] is None else bound["weight"])
            output._terms[model]["density"].add(bound["density"])

    cutoffs: dict[str, dict[ModelReference, Any]] = {}
    shared = dict(planned[0][1].parameters.items()) if planned else {}
    if shared.get("scope") == "global":
        sparse = {m: d for m, values in densities.items() if (d := one_density(str(m), values)) < 1}
        for model in tqdm.tqdm(sparse, desc="Finding global thresholds", disable=not sparse):

            def pairs(model=model):
                for weight, task in planned:
                    if weight.name in output._layout.head:
                        continue
                    tensors = _load(task.gather_tensors, (cast.base, model))
                    if len(tensors) == 2 and tensors[cast.base].is_floating_point():
                        yield weight.name, tensors[cast.base], tensors[model]
                        _release(tensors.values())

            found = find_global_cutoffs(pairs, cast.base, model, sparse[model], shared["select"])
            for name, cutoff in found.items():
                cutoffs.setdefault(name, {})[model] = cutoff

    result = []
    for weight, task in planned:
        parameters = dict(task.parameters.items()) | {
            "record": output._record,
            "cutoffs": cutoffs.get(weight.name, {}),
        }
        fields = {name: getattr(task, name) for name in type(task).model_fields}
        fields |= {"parameters": ImmutableMap(parameters), "out_dtype": output.out_dtype}
        result.append((weight, MergeTask.model_construct(**fields)))
    return result


class MergeTask(ExecuteMergeMethodTask):
    """A planned merge of one tensor that gives the pages of its inputs back when it is done."""

    def execute(self, tensors: dict[ModelReference, Any], **kwargs: Any) -> Any:
        result = super().execute(tensors, **kwargs)
        _release(tensors.values())
        return result


def _release(tensors: Iterable[Any]) -> None:
    """Close the input files after a large tensor: their mapped pages count as this process's memory."""
    if any(tensor.nbytes >= _LARGE for tensor in tensors):
        LoaderCache().flush_all()


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


def _add_base_to_slices(recipe: MergeConfiguration, base: ModelReference) -> None:
    """θ₀ takes part in every slice, listed or not, as it does under `models`."""
    slices = [*(recipe.slices or [])]
    for module in (recipe.modules or {}).values():
        slices += module.slices or []
    for piece in slices:
        if base not in [source.model for source in piece.sources]:
            piece.sources.append(InputSliceDefinition(model=base, layer_range=piece.sources[0].layer_range))


def _load(gather: Any, models: tuple[ModelReference, ...]) -> dict[ModelReference, Tensor]:
    """The tensors of some models for one output tensor, as the planned merge will get them."""
    if isinstance(gather, GatherTensors):
        tasks = dict(zip(gather.weight_info, gather.arguments().values(), strict=True))
        loaded = {model: tasks[model].execute() for model in models if model in tasks}
        return {model: tensor for model, tensor in loaded.items() if tensor is not None}
    (_, tensors), *_ = Executor([gather]).run(quiet=True)  # the recipe aligns vocabularies
    return {model: tensors[model] for model in models if model in tensors}
