"""What a merge of whole checkpoints asks of a method, whatever its arithmetic, and what all refuse."""

import threading
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from mergekit.merge_methods.base import (
    BasePolicy,
    BatchOptions,
    GroupMergeMethod,
    ParameterScope,
    ParameterSpec,
    TensorGroup,
)
from torch import Tensor

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.arithmetic import norm_ratio

Role = Literal["task", "source", "target"]


def role_parameter(base: BasePolicy) -> ParameterSpec:
    """The parameter `role`; mergekit knows no non-base models where a method ignores the base."""
    scope = ParameterScope.INPUT if base == BasePolicy.IGNORED else ParameterScope.NON_BASE
    return ParameterSpec("role", Role, scope, description="task, source or target")


@dataclass
class Record:
    """What a merge learns about its vectors on the way: squared norms, summed over tensors."""

    base: dict[Hashable, float] = field(default_factory=dict)
    vector: dict[Hashable, float] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def add(self, model: Hashable, base_square: float, vector_square: float) -> None:
        with self._lock:
            self.base[model] = self.base.get(model, 0.0) + base_square
            self.vector[model] = self.vector.get(model, 0.0) + vector_square

    def ratio(self, model: Hashable) -> float | None:
        """‖τ‖ / ‖θ₀‖ over the tensors that both have; None where the method knows no θ₀."""
        return norm_ratio(self.vector[model], self.base[model]) if model in self.vector else None


class CheckpointMethod(GroupMergeMethod):
    """A method of mergekit whose models have roles.

    Besides the parameters of its spec, a merge of whole checkpoints passes each tensor a `record` to fill and
    what `for_tensor` gives. A sweep passes `known_finite` (an earlier merge of these inputs found no NaN).

    Attributes:
        text: the method's source, as a card names it.
        several_tasks: several models may have role: task, and their heads are merged as the body is.
        body_of_all: merged is what all models have; else what θ₀ and the task model have.
        keeps_dtype: the recipe's `dtype` is the type of the arithmetic, as mergekit has it; else sums have a
            type of their own, and `dtype` is that of the output.
        needs_language: a recipe of this method without a language vector is none to vary anything in.
    """

    text: str
    several_tasks = False
    body_of_all = False
    keeps_dtype = False
    needs_language = True

    @property
    def per_model(self) -> tuple[str, ...]:
        """Names of the parameters that a model has."""
        return tuple(p.name for p in self.spec.parameters if p.scope != ParameterScope.SHARED)

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the parameters that hold for the whole merge."""
        return tuple(p.name for p in self.spec.parameters if p.scope == ParameterScope.SHARED)

    def parameter(self, name: str) -> ParameterSpec:
        return next(p for p in self.spec.parameters if p.name == name)

    @property
    def takes_base(self) -> bool:
        """Whether θ₀ takes part in the arithmetic, where the recipe names it."""
        return self.spec.contract.base in (BasePolicy.REQUIRED, BasePolicy.OPTIONAL)

    @property
    def needs_base(self) -> bool:
        return self.spec.contract.base == BasePolicy.REQUIRED

    def check_model(self, model: str, role: str, settings: Mapping[str, Any]) -> None:
        """Refuse a model that lacks a parameter, before mergekit does so for one of its tensors.

        Args:
            settings: as the recipe has them, inherited ones included; each by itself is right.
        """
        for name in self.per_model:
            if settings.get(name) is None and self.parameter(name).required:
                raise UserError(
                    f"{model}: parameter '{name}' is missing; {self.spec.name} needs one for each model, "
                    f"such as {name}: 1.0"
                )

    def check_roles(self, roles: Mapping[Hashable, str], base: Hashable | None) -> None:
        """Refuse models that the method cannot merge.

        Args:
            roles: model → role; at least one is a task model, and only one where not `several_tasks`.
            base: θ₀, or None where the recipe has none.
        """

    def check_folders(
        self,
        folders: Mapping[Hashable, str],
        sources: Mapping[Hashable, Mapping[str, str]],
        merged: AbstractSet[str],
    ) -> None:
        """Look at what the method reads besides weights, before weights are read.

        Args:
            folders: model → the folder of its files.
            sources: model → tensor of the output → its name there.
            merged: tensors of the output that are merged.
        """

    def for_tensor(self, name: str, seed: int, places: Mapping[Hashable, tuple[str, str]]) -> dict[str, Any]:
        """Further parameters of one tensor's merge.

        Args:
            name: of the tensor in the output.
            seed: of the whole merge.
            places: model → its folder, and the tensor's name there.
        """
        return {}

    def given(self, model: Hashable, bound: Mapping[str, Any]) -> dict[str, Any]:
        """A model's parameters for one tensor, as summary and card show them."""
        return {name: bound[name] for name in self.per_model if name != "role"}

    def merge_group(self, group: TensorGroup, /, **parameters: Any) -> Tensor:
        (result,) = self._execute((group,), [parameters], BatchOptions(), input_dtypes=[None])
        return result

    def _execute(
        self,
        groups: Sequence[TensorGroup],
        parameters: list[dict[str, Any]],
        options: BatchOptions,
        *,
        input_dtypes: Sequence[torch.dtype | None],
        out_dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, ...]:
        # mergekit's own loop would first convert whole inputs to one type; ours do so by the chunk, or leave
        # it to the kernel.
        return tuple(
            self._merge(group, bound, dtype, out_dtype)
            for group, bound, dtype in zip(groups, parameters, input_dtypes, strict=True)
        )

    @abstractmethod
    def _merge(
        self,
        group: TensorGroup,
        parameters: Mapping[str, Any],
        dtype: torch.dtype | None,
        out_dtype: torch.dtype | None,
    ) -> Tensor:
        """One tensor of the output.

        Args:
            dtype: the inputs' type that mergekit's Python interface was asked for.
        """


def refuse_non_finite(tensors: Mapping[str, Tensor], name: str | None) -> None:
    """Name the model whose tensor holds a NaN or an infinity; returns where none does.

    Args:
        tensors: model → its tensor of this name.

    Raises:
        UserError: which model, which tensor, how many values.
    """
    for model, tensor in tensors.items():
        bad = tensor.numel() - int(tensor.isfinite().count_nonzero())
        if bad:
            raise UserError(
                f"{model}: tensor {name} has {bad} values that are NaN or infinite; "
                "a merge needs finite weights"
            )


def refuse_group(group: TensorGroup) -> None:
    """`refuse_non_finite` of all that is merged to one tensor."""
    refuse_non_finite({str(entry.id): entry.tensor for entry in group.entries}, group.metadata.name)


def refuse_overflow(tensor: Tensor, model: str, name: str | None) -> Tensor:
    """A tensor of the output as it is, unless a number is beyond its type.

    Args:
        model: whose part of the sum is the largest.

    Raises:
        UserError: a value beyond the range of the output's type.
    """
    limit = torch.finfo(tensor.dtype).max
    # Sums are taken in float32, whose range bfloat16 shares, so that only smaller types are worth a pass.
    if limit < torch.finfo(torch.float32).max / 2 and not tensor.isfinite().all():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(
            f"{model}: in tensor {name} the sum is beyond the range of {kind} (±{limit:g}); "
            "merge with dtype: bfloat16 or float32"
        )
    return tensor
