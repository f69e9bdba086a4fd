"""`xlt_additive` and `xlt_analogy` as mergekit methods: which tensor is which, and with which λ."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from mergekit.merge_methods.base import (
    BasePolicy,
    InputContract,
    MergeMethodSpec,
    OptionalTensorPolicy,
    ParameterScope,
    ParameterSpec,
    TensorGroup,
)
from torch import Tensor

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.arithmetic import Term, combine
from taxlt_mergekit.merge.cutoffs import global_cutoffs, tensor_cutoff
from taxlt_mergekit.merge.methods.base import CheckpointMethod, refuse_group, refuse_overflow, role_parameter
from taxlt_mergekit.paper import citation
from taxlt_mergekit.sparsity import Cutoff, NotFiniteError, Scope, Select

PARAMETERS = (
    role_parameter(BasePolicy.REQUIRED),
    ParameterSpec("weight", float | None, ParameterScope.NON_BASE, None, "λ; 1.0 for the task model"),
    ParameterSpec("density", float, ParameterScope.NON_BASE, 1.0, "share of the vector that is kept"),
    ParameterSpec("select", Select, ParameterScope.SHARED, "top", "keep the largest or the smallest"),
    ParameterSpec("scope", Scope, ParameterScope.SHARED, "global", "one threshold a vector, or one a tensor"),
)


class CrossLingualMerge(CheckpointMethod):
    """θ' = θ₀ + λ_T τ_T ± Σ λ_s τ_s + Σ λ_t τ_t for one tensor at a time (equations 2 and 3).

    `base` is θ₀. Besides the parameters of its spec, a merge of whole checkpoints may pass `cutoffs` (model →
    cutoff of this tensor, found beforehand), `record` (a `Record` to fill), `out` (where to write) and
    `known_finite` (an earlier merge of these inputs found no NaN; then there is no record to fill).
    """

    text = f"{citation.TEXT} {citation.URL}"

    def __init__(self, name: str, pretty_name: str, source_sign: int):
        self.source_sign = source_sign
        self.spec = MergeMethodSpec(
            name=name,
            pretty_name=pretty_name,
            reference_url=citation.URL,
            parameters=PARAMETERS,
            contract=InputContract(base=BasePolicy.REQUIRED, min_inputs=2),
            # A tensor of the task model alone is its head.
            optional_tensor_policy=OptionalTensorPolicy.PASSTHROUGH_SINGLETON,
        )

    def _bind_parameters(
        self, groups: Sequence[TensorGroup], parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """mergekit's Python calls come through here, with all tensors of the vectors."""
        bound = super()._bind_parameters(groups, parameters)
        return _with_global_cutoffs(groups, bound) if bound and bound[0]["scope"] == "global" else bound

    def check_model(self, model: str, role: str, settings: Mapping[str, Any]) -> None:
        if settings.get("weight") is None:
            scaling_factor(model, role, None)

    def check_roles(self, roles: Mapping[Hashable, str], base: Hashable | None) -> None:
        if self.source_sign < 0 and "source" not in roles.values():
            raise UserError(
                f"{self.spec.name}: no model has role: source, so there is nothing to subtract; for +TGT use "
                "xlt_additive"
            )

    def given(self, model: Hashable, bound: Mapping[str, Any]) -> dict[str, Any]:
        weight = scaling_factor(str(model), bound["role"], bound["weight"])
        return {"weight": weight, "density": bound["density"]}

    def _merge(
        self,
        group: TensorGroup,
        parameters: Mapping[str, Any],
        dtype: torch.dtype | None,
        out_dtype: torch.dtype | None,
    ) -> Tensor:
        base = group.base
        assert base is not None, "the input contract requires a base"
        roles = parameters["role"]
        # The task vector comes first, so that λ_T = 1 starts the sum as θ_T itself.
        entries = sorted(group.non_base, key=lambda entry: roles[entry.id] != "task")
        cutoffs = parameters.get("cutoffs", {})
        terms = []
        for entry in entries:
            factor = scaling_factor(str(entry.id), roles[entry.id], parameters["weight"][entry.id])
            sign = self.source_sign if roles[entry.id] == "source" else 1
            density = parameters["density"][entry.id]
            cutoff = cutoffs.get(entry.id)
            if cutoff is None and density < 1:
                if parameters["scope"] == "global" and "cutoffs" not in parameters:
                    raise UserError(
                        f"{entry.id}: this command merges tensor by tensor, so scope 'global' has no "
                        "whole vector to look at; use mergekit-yaml, or scope: tensor"
                    )
                try:
                    cutoff = tensor_cutoff(base.tensor, entry.tensor, density, parameters["select"])
                except NotFiniteError:
                    refuse_group(group)
                    raise
            terms.append(Term(entry.tensor, sign * factor, cutoff))
        result, squares = combine(
            base.tensor,
            terms,
            dtype=out_dtype,
            out=parameters.get("out"),
            norms=not parameters.get("known_finite"),
        )
        if not all(map(_finite, squares)):
            refuse_group(group)
        sizes = [abs(term.weight) * square**0.5 for term, square in zip(terms, squares[1:], strict=True)]
        largest = entries[max(range(len(sizes)), key=sizes.__getitem__)]
        # No entry of the sum is larger than the sum of the norms.
        if parameters.get("known_finite") or squares[0] ** 0.5 + sum(sizes) > torch.finfo(result.dtype).max:
            refuse_overflow(result, str(largest.id), group.metadata.name)
        if (record := parameters.get("record")) is not None:
            for entry, square in zip(entries, squares[1:], strict=True):
                record.add(entry.id, squares[0], square)
        return result


def scaling_factor(model: str, role: str, weight: float | None) -> float:
    """λ as it was given; where it was not, 1 for the task vector.

    Raises:
        UserError: a language vector without λ.
    """
    if weight is not None:
        return weight
    if role == "task":
        return 1.0
    raise UserError(
        f"{model}: parameter 'weight' (the scaling factor λ) is missing; a {role} model needs one, "
        "such as weight: 0.9"
    )


def _with_global_cutoffs(
    groups: Sequence[TensorGroup], parameters: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Thresholds over all groups of one call of mergekit's Python interface."""
    densities: dict[Hashable, set[float]] = {}
    for group, bound in zip(groups, parameters, strict=True):
        for entry in group.non_base:
            densities.setdefault(entry.id, set()).add(bound["density"][entry.id])
    cutoffs: list[dict[Hashable, Cutoff]] = [{} for _ in groups]
    for model, values in densities.items():
        density = one_density(str(model), values)
        if density >= 1:
            continue
        holders = {
            f"{index:09d}": {entry.id: entry for entry in group.entries}
            for index, group in enumerate(groups)
            if any(entry.id == model for entry in group.entries)
        }
        base_ids = {key: groups[int(key)].base for key in holders}

        def pairs(model=model, holders=holders, base_ids=base_ids):
            for key, entries in holders.items():
                yield key, base_ids[key].tensor, entries[model].tensor

        try:
            found = global_cutoffs(pairs, density, parameters[0]["select"])
        except NotFiniteError:
            for key in holders:
                refuse_group(groups[int(key)])
            raise
        for key, cutoff in found.items():
            cutoffs[int(key)][model] = cutoff
    return [bound | {"cutoffs": found} for bound, found in zip(parameters, cutoffs, strict=True)]


def one_density(model: str, values: set[float]) -> float:
    """The density of a vector under scope `global`, which must be the same for all its tensors."""
    if len(values) > 1:
        low, high = min(values), max(values)
        raise UserError(
            f"{model}: density differs between tensors ({low:g} to {high:g}), but scope 'global' sets one "
            "threshold over the whole vector; give one number, or scope: tensor"
        )
    return next(iter(values))


def _finite(value: float) -> bool:
    return value - value == 0


additive = CrossLingualMerge("xlt_additive", "Cross-lingual task arithmetic (+SRC, +TGT)", source_sign=1)
analogy = CrossLingualMerge("xlt_analogy", "Cross-lingual task analogy (−SRC+TGT)", source_sign=-1)
