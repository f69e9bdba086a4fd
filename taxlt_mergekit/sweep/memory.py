"""Merges a recipe again and again into a model in memory: planned once, read once, one pass a point.

The tensors come from the merge methods themselves, through mergekit's own plan, so that a model here and the
one that `mergekit-yaml` writes are equal bit for bit.
"""

from collections.abc import Iterator
from typing import Any

from mergekit.common import ImmutableMap, ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache, LoadTensor
from mergekit.options import MergeOptions
from torch import Tensor

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.checkpoint import Skeleton
from taxlt_mergekit.merge.cutoffs import tensor_cutoff
from taxlt_mergekit.merge.layers import groups_of
from taxlt_mergekit.merge.plan import VectorPlanner, find_global_cutoffs, loads
from taxlt_mergekit.merge.run import prepare
from taxlt_mergekit.sparsity import Cutoff

# Open tensors by what loads them, shared between the recipes of a sweep.
TensorCache = dict[LoadTensor, Tensor | None]


class MemoryMerge:
    """One recipe, planned, with its checkpoints open."""

    def __init__(self, recipe: MergeConfiguration, source: str, cache: TensorCache, options: MergeOptions):
        """
        Args:
            recipe: of one of our methods.
            source: its text.
            cache: tensors that other recipes opened already; gets those of this one.

        Raises:
            UserError: what `mergekit-yaml` would refuse, or a recipe that changes the model's shape.
        """
        if recipe.slices or recipe.tokenizer or recipe.tokenizer_source:
            raise UserError("a sweep merges into the task model's own shape: no slices, no new vocabulary")
        merge = prepare(recipe, "memory", options, source)
        self.cast, self._cache = merge.cast, cache
        config = self.cast.task.config(trust_remote_code=options.trust_remote_code)
        with translated(f"{recipe.merge_method}: cannot be planned"):
            self._planned = VectorPlanner(merge, options, config).plan_body()
        self.seed = merge.seed
        self._targets: dict[str, Tensor] = {}
        self._cutoffs: dict[tuple, dict[str, Cutoff]] = {}
        self._finite: set[str] = set()  # tensors whose inputs were merged once
        self._groups = groups_of(self.names)

    @property
    def names(self) -> list[str]:
        """The tensors that are merged, as the output calls them."""
        return [name for name, _ in self._planned]

    @property
    def languages(self) -> dict[ModelReference, str]:
        """Language models and their roles."""
        return {model: role for model, role in self.cast.roles.items() if role != "task"}

    def attach(self, model: Any) -> None:
        """Say which model is merged into: the task model as transformers loads it.

        Raises:
            UserError: tensors that transformers holds fused, which cannot be written one by one.
        """
        skeleton, state = Skeleton(model), model.state_dict()
        names = {name: skeleton.in_model(name) for name, _ in self._planned}
        if fused := sorted(name for name, own in names.items() if own is None):
            raise UserError(
                f"{self.cast.task}: {fused[0]} is part of a larger tensor in the loaded model, where a sweep "
                "cannot write it; merge with mergekit-yaml and score with lm_eval, point by point"
            )
        self._targets = {name: state[own] for name, own in names.items() if own is not None}

    def merge_at(self, point: Parameters | None) -> None:
        """Write θ' into the attached model.

        Args:
            point: λ, density and selection; null in it leaves what the recipe says. None stands for MODEL,
                the task model as it is.

        Raises:
            UserError: NaN or infinity in an input.
        """
        for name, task in self._planned:
            tensors, target = self._tensors(task), self._targets[name]
            if point is None:
                target.copy_(tensors[self.cast.task])
                continue
            result = self._at(point, name, task, target).execute(tensors)
            if result.data_ptr() != target.data_ptr():  # an integer buffer, which is handed through
                target.copy_(result)
            self._finite.add(name)

    def close(self, still_needed: set[ModelReference]) -> None:
        """Let go of the checkpoints that no later recipe names."""
        for task in [task for task in self._cache if task.model not in still_needed]:
            del self._cache[task]
        for model in [model for model in LoaderCache().loaders if model not in still_needed]:
            del LoaderCache().loaders[model]

    def _tensors(self, task: Any) -> dict[ModelReference, Tensor]:
        tensors = {}
        for model, load in loads(task.gather_tensors).items():
            if load not in self._cache:
                self._cache[load] = load.execute()
            if (tensor := self._cache[load]) is not None:
                tensors[model] = tensor
        return tensors

    def _at(self, point: Parameters, name: str, task: Any, target: Tensor) -> Any:
        """The planned merge of one tensor with the point's parameters, writing to the model."""
        inputs = {model: dict(bound.items()) for model, bound in task.input_parameters.items()}
        for model, role in self.languages.items():
            if model not in inputs:  # a head that several task models have
                continue
            weight = point.source_weight if role == "source" else point.target_weight
            if point.groups is not None:
                weight = point.groups.by_name[self._groups[name]]
            inputs[model] |= {} if weight is None else {"weight": weight}
            inputs[model] |= {} if point.density is None else {"density": point.density}
        shared = dict(task.parameters.items()) | {"record": None, "known_finite": name in self._finite}
        if target.device.type == "cpu":  # where the checkpoints are
            shared["out"] = target
        has_thresholds = "scope" in shared  # over whole vectors, which mergekit's methods do not know
        if has_thresholds and point.density is not None:
            shared["cutoffs"] = {}
            if point.density < 1:
                shared["select"] = point.select or shared["select"]
                shared["scope"] = point.scope or shared["scope"]
                shared["cutoffs"] = {
                    model: found
                    for model in self.languages
                    if (found := self._vector_cutoffs(model, point.density, shared).get(name)) is not None
                }
        update = {"parameters": ImmutableMap(shared), "input_parameters": ImmutableMap(inputs)}
        return task.model_copy(update=update)

    def _vector_cutoffs(self, model: ModelReference, density: float, shared: dict) -> dict[str, Cutoff]:
        """Found once for each density and selection, whatever the number of scaling factors."""
        key = (model, density, shared["select"], shared["scope"])
        if key not in self._cutoffs:
            if shared["scope"] == "global":
                found = find_global_cutoffs(
                    lambda: self._pairs(model), self.cast.base, model, density, shared["select"]
                )
            else:
                found = {
                    name: tensor_cutoff(base, tensor, density, shared["select"])
                    for name, base, tensor in self._pairs(model)
                }
            self._cutoffs[key] = found
        return self._cutoffs[key]

    def _pairs(self, model: ModelReference) -> Iterator[tuple[str, Tensor, Tensor]]:
        for name, task in self._planned:
            tensors = self._tensors(task)
            if model in tensors and tensors[model].is_floating_point():
                yield name, tensors[self.cast.base], tensors[model]
