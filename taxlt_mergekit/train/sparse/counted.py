"""Which parameters K is counted over, how many it is, and which are frozen on request."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train.settings import Settings, TaskSettings


@dataclass(frozen=True)
class Sparse:
    """A lottery ticket that is to be found.

    Attributes:
        k: how many parameters are trained in phase 2.
        names: of the tensors that they are chosen from.
        n: entries of these tensors.
    """

    k: int
    names: tuple[str, ...]
    n: int

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Lines for the start and for the model card."""
        return [
            ("sparse", f"K = {self.k:,} of {self.n:,} parameters ({self.k / self.n:.3%}), lottery ticket"),
            ("phases", "two, each with the steps below: 1 trains all and selects K, 2 trains K from θ₀"),
        ]


def check_sparse(settings: Settings) -> None:
    """Refuse combinations that have no meaning, before anything is read.

    Raises:
        UserError: names the flag.
    """
    sparse = settings.sparse
    flags = {"--sparse": sparse, "--freeze": settings.freeze, "--fisher": settings.fisher}
    for flag, given in flags.items():
        if given is not None and settings.lora_rank is not None:
            raise UserError(
                f"{flag} cannot be used with --lora-rank, which trains none of θ₀'s own parameters"
            )
    if sparse is not None and sparse > 1 and sparse != int(sparse):
        raise UserError(
            f"--sparse {sparse:g}: give a share below 1 (0.05), or a whole number of parameters (7600000)"
        )
    if settings.l1 is not None and sparse is None:
        raise UserError("--l1 goes with --sparse")
    for name in ("deepspeed", "fsdp", "fsdp_config"):
        if sparse is not None and settings.arguments.get(name):
            raise UserError(f"--sparse cannot be used with {name}, which cuts parameters into pieces")
    if settings.l1 is not None and settings.arguments.get("fp16"):
        raise UserError("--l1 cannot be used with --fp16, whose gradients are scaled; --bf16 can")
    if "output-embeddings" in (settings.freeze or ()):
        if isinstance(settings, TaskSettings):
            raise UserError("--freeze output-embeddings: a classifier has none; leave it out")
        if settings.tie_embeddings:
            raise UserError("--freeze output-embeddings cannot be used with --tie-embeddings: it unties them")


def freeze(model: Any, wanted: Collection[str], fresh: Collection[str]) -> None:
    """Freeze what `--freeze` names: `layer-norm`, every normalisation of θ₀; `output-embeddings`, untied.

    Args:
        model: with untied embeddings where the output's are to be frozen.
        wanted: the names.
        fresh: parameters that θ₀ does not have, which are trained all the same.

    Raises:
        UserError: the model has no such parameters.
    """
    for name in wanted:
        if name == "layer-norm":
            modules = [(at, one) for at, one in model.named_modules() if "norm" in type(one).__name__.lower()]
            found = {
                f"{at}.{own}": parameter
                for at, one in modules
                for own, parameter in one.named_parameters(recurse=False)
            }
        else:
            found = {"weight": model.get_output_embeddings().weight}
        frozen = [parameter for at, parameter in found.items() if at not in fresh]
        if not frozen:
            raise UserError(f"--freeze {name}: this model has no such parameters")
        for parameter in frozen:
            parameter.requires_grad_(False)


def count(model: Any, settings: Settings, fresh: Collection[str]) -> Sparse | None:
    """What `--sparse` means for a model; None where it is not given.

    Counted is every parameter that θ₀ has and that is trained; shared ones once. Of a classifier the body's
    alone: its head is trained in full. Frozen ones are not counted.

    Args:
        model: θ₀, frozen as it will be trained.
        settings: whose `sparse` is positive.
        fresh: parameters that θ₀ does not have.

    Raises:
        UserError: K is nought, or more than there are.
    """
    if settings.sparse is None:
        return None
    prefix = f"{model.base_model_prefix}." if isinstance(settings, TaskSettings) else ""
    counted = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.startswith(prefix) and name not in fresh
    }
    n = sum(counted.values())
    k = int(settings.sparse * n) if settings.sparse < 1 else int(settings.sparse)
    if not 0 < k <= n:
        raise UserError(
            f"--sparse {settings.sparse:g} is {k:,} parameters; {settings.model} has {n:,} to choose from"
        )
    return Sparse(k, tuple(counted), n)


def chosen_from(model: Any, names: Sequence[str]) -> Mapping[str, nn.Parameter]:
    """The counted tensors of a model."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name] for name in names}
