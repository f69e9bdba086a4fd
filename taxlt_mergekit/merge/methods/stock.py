"""mergekit's own methods as `xlt_<method>`: roles, heads and checks are ours, the arithmetic is its kernel.

A tensor comes out bit for bit as mergekit's own method makes it of the same inputs. Methods that draw at
random (DARE, DELLA) are seeded anew for each tensor, so that what comes out does not depend on the order in
which tensors are merged: a merge to disk and one in memory are the same.
"""

import contextlib
import hashlib
import threading
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from mergekit.merge_methods.base import (
    BasePolicy,
    InputContract,
    MergeMethod,
    MergeMethodSpec,
    TensorGroup,
)
from torch import Tensor

from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.merge.arithmetic import squared_norms
from taxlt_mergekit.merge.methods.base import CheckpointMethod, refuse_group, role_parameter

# torch's generator is the process's own, and mergekit merges on several GPUs in threads.
_GENERATOR = threading.Lock()


class StockMerge(CheckpointMethod):
    """A method of mergekit whose models have roles; θ₀ is its base, where it has one."""

    several_tasks = True
    body_of_all = True
    keeps_dtype = True
    needs_language = False

    def __init__(self, stock: MergeMethod):
        self.stock = stock
        spec = stock.spec
        self.text = f"{spec.pretty_name or spec.name}, {spec.reference_url or 'as mergekit has it'}"
        self.spec = MergeMethodSpec(
            name=f"xlt_{spec.name}",
            pretty_name=f"{spec.pretty_name or spec.name}, with roles and the task model's head",
            reference_url=spec.reference_url,
            parameters=(role_parameter(spec.contract.base), *spec.parameters),
            contract=spec.contract,
        )

    def check_model(self, model: str, role: str, settings: Mapping[str, Any]) -> None:
        super().check_model(model, role, settings)
        density, epsilon = (_number(self, settings, name) for name in ("density", "epsilon"))
        if density is None or epsilon is None or density >= 1:
            return
        if density <= epsilon or density + epsilon >= 1:
            raise UserError(
                f"{model}: density ± epsilon must lie between 0 and 1, not {density:g} ± {epsilon:g} "
                f"({self.spec.name})"
            )

    def check_roles(self, roles: Mapping[Hashable, str], base: Hashable | None) -> None:
        try:
            self.spec.contract.validate_ids([*roles, *([] if base is None else [base])], base)
        except ValueError as error:
            what = "base_model and models" if base is not None else "models"
            raise UserError(f"{self.spec.name}: {one_line(error)} ({what})") from None

    def for_tensor(self, name: str, seed: int, places: Mapping[Hashable, tuple[str, str]]) -> dict[str, Any]:
        return {"seed": tensor_seed(seed, name)}

    def _merge(
        self,
        group: TensorGroup,
        parameters: Mapping[str, Any],
        dtype: torch.dtype | None,
        out_dtype: torch.dtype | None,
    ) -> Tensor:
        if not parameters.get("known_finite"):
            _look_at(group, parameters.get("record"))
        own = {parameter.name: parameters[parameter.name] for parameter in self.stock.spec.parameters}
        device = group.entries[0].tensor.device
        try:
            with _seeded(parameters.get("seed"), device):
                (result,) = self.stock((group,), parameters=own, dtype=dtype, out_dtype=out_dtype)
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            raise UserError(f"{self.spec.name}: tensor {group.metadata.name}: {one_line(error)}") from error
        if bad := result.numel() - int(result.isfinite().count_nonzero()):
            raise UserError(
                f"{self.spec.name}: tensor {group.metadata.name} comes out with {bad} values that are NaN or "
                "infinite, of finite inputs; look at weights that sum to 0, and at the range of "
                f"{str(result.dtype).removeprefix('torch.')}"
            )
        return result


def _number(method: CheckpointMethod, settings: Mapping[str, Any], name: str) -> float | None:
    """A parameter that is one number for the whole model; None where it is not, or the method has none."""
    if name not in method.per_model:
        return None
    value = settings.get(name, method.parameter(name).default)
    return float(value) if isinstance(value, int | float | str) else None


def fits(method: MergeMethod) -> bool:
    """Whether a method can merge a task model and a language model: with θ₀, if it takes a base."""
    contract: InputContract = method.spec.contract
    takes_base = contract.base in (BasePolicy.REQUIRED, BasePolicy.OPTIONAL)
    try:
        contract.validate_ids(["task", "language", *(["base"] * takes_base)], "base" if takes_base else None)
    except ValueError:
        return False
    return True


def tensor_seed(seed: int, name: str) -> int:
    """The seed of one tensor's draws: the first 63 bits of the SHA-256 of `SEED NAME`."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """torch's generators as they are after `seed`, and afterwards as they were; unchanged for None."""
    if seed is None:
        yield
        return
    devices = [] if device.type == "cpu" else [device]
    with _GENERATOR, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _look_at(group: TensorGroup, record: Any) -> None:
    """Refuse NaN and infinity; note the vectors' norms where there is a θ₀."""
    if group.base is None:
        refuse_group(group)
        return
    base_square, *squares = squared_norms(group.base.tensor, [entry.tensor for entry in group.non_base])
    if not all(square - square == 0 for square in (base_square, *squares)):
        refuse_group(group)
    if record is not None:
        for entry, square in zip(group.non_base, squares, strict=True):
            record.add(entry.id, base_square, square)
