"""`xlt_fisher`: models averaged by each parameter's Fisher information (Matena and Raffel 2022)."""

import os
from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from mergekit.merge_methods.base import (
    BasePolicy,
    InputContract,
    MergeMethodSpec,
    ParameterScope,
    ParameterSpec,
    TensorGroup,
)
from safetensors import safe_open
from torch import Tensor

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.arithmetic import Weighed, fisher_mean
from taxlt_mergekit.merge.methods.base import CheckpointMethod, refuse_group, refuse_overflow, role_parameter
from taxlt_mergekit.model_files import FISHER_FILE

URL = "https://arxiv.org/abs/2111.09832"


class FisherMerge(CheckpointMethod):
    """θ' = Σ λᵢ Fᵢ θᵢ / Σ λᵢ Fᵢ, entry by entry (equation 2 of Matena and Raffel).

    Fᵢ is the diagonal of model i's Fisher information, in `fisher.safetensors` beside its weights: float32,
    under the names of that model's own tensors.
    """

    text = (
        f"Michael Matena, Colin Raffel. *Merging Models with Fisher-Weighted Averaging*. NeurIPS 2022. {URL}"
    )
    several_tasks = True
    body_of_all = True
    needs_language = False

    def __init__(self) -> None:
        self.spec = MergeMethodSpec(
            name="xlt_fisher",
            pretty_name="Fisher-weighted averaging",
            reference_url=URL,
            parameters=(
                role_parameter(BasePolicy.IGNORED),
                ParameterSpec("weight", float, ParameterScope.INPUT, 1.0, "λ, not negative"),
            ),
            contract=InputContract(base=BasePolicy.IGNORED, min_inputs=2),
        )

    def check_model(self, model: str, role: str, settings: Mapping[str, Any]) -> None:
        weight = settings.get("weight", 1.0)
        if isinstance(weight, int | float):  # filters and gradients are known tensor by tensor
            self._check_weight(model, weight)

    def _check_weight(self, model: Hashable, weight: float) -> None:
        if weight < 0:
            raise UserError(f"{model}: weight must be at least 0, not {weight:g} ({self.spec.name})")

    def check_roles(self, roles: Mapping[Hashable, str], base: Hashable | None) -> None:
        if len(roles) < 2:
            raise UserError(f"{self.spec.name}: averages two models or more, not {len(roles)}")

    def check_folders(
        self,
        folders: Mapping[Hashable, str],
        sources: Mapping[Hashable, Mapping[str, str]],
        merged: AbstractSet[str],
    ) -> None:
        for model, folder in folders.items():
            path = os.path.join(folder, FISHER_FILE)
            if not os.path.isfile(path):
                raise UserError(
                    f"{model}: has no {FISHER_FILE}, which {self.spec.name} weighs it by; taxlt train with "
                    "--fisher writes it"
                )
            with translated(f"{path}: cannot be read"), safe_open(path, framework="pt") as file:
                there = set(file.keys())
                own = {sources[model][name] for name in merged if name in sources[model]}
                if missing := sorted(own - there):
                    raise UserError(
                        f"{path}: has no tensor {missing[0]}, which the model has; it is of other weights: "
                        "write it again, by taxlt train with --fisher"
                    )

    def for_tensor(self, name: str, seed: int, places: Mapping[Hashable, tuple[str, str]]) -> dict[str, Any]:
        return {"fisher": dict(places)}

    def _merge(
        self,
        group: TensorGroup,
        parameters: Mapping[str, Any],
        dtype: torch.dtype | None,
        out_dtype: torch.dtype | None,
    ) -> Tensor:
        places = parameters.get("fisher")
        if places is None:
            raise UserError(f"{self.spec.name}: reads {FISHER_FILE} of whole checkpoints; use mergekit-yaml")
        if not parameters.get("known_finite"):
            refuse_group(group)
        weighed = []
        for entry in group.entries:
            weight = parameters["weight"][entry.id]
            self._check_weight(entry.id, weight)
            folder, name = places[entry.id]
            fisher = _read(folder, name, entry.tensor)
            weighed.append(Weighed(entry.tensor, weight, fisher))
        if not any(one.weight for one in weighed):
            raise UserError(f"{self.spec.name}: no model has a weight above 0")
        result = fisher_mean(weighed, dtype=out_dtype, out=parameters.get("out"))
        return refuse_overflow(result, str(group.entries[0].id), group.metadata.name)


def _read(folder: str, name: str, like: Tensor) -> Tensor:
    """The Fisher information of one tensor.

    Raises:
        UserError: of another shape or type, or with a value that is negative, NaN or infinite.
    """
    path = os.path.join(folder, FISHER_FILE)
    with translated(f"{path}: cannot be read"), safe_open(path, framework="pt") as file:
        fisher = file.get_tensor(name)
    if fisher.dtype != torch.float32 or fisher.shape != like.shape:
        kind = str(fisher.dtype).removeprefix("torch.")
        raise UserError(
            f"{path}: tensor {name} is {kind} of shape {list(fisher.shape)}, but should be float32 of shape "
            f"{list(like.shape)}, as the model's"
        )
    if not bool((fisher >= 0).all()) or not bool(fisher.isfinite().all()):
        raise UserError(
            f"{path}: tensor {name} has values that are negative, NaN or infinite; write it again"
        )
    return fisher.to(like.device)


fisher = FisherMerge()
