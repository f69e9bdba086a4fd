"""What a merge must give, told from loaded modules: which tensor of one model is which of another.

No file name takes part: two models share their base model, and a tensor's place in it says what it is.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

TOLERANCE = 2e-6


def tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and persistent buffers by every name that they have; tied ones are one object."""
    return {name: getattr(value, "data", value) for name, value in _held(model).items()}


def units(model: PreTrainedModel) -> list[list[str]]:
    """The names of each tensor of a model: several where it is tied."""
    by_object: dict[int, list[str]] = {}
    for name, value in _held(model).items():
        by_object.setdefault(id(value), []).append(name)
    return list(by_object.values())


def counterparts(model: PreTrainedModel, other: PreTrainedModel) -> dict[str, str]:
    """Name of a tensor → its name in the other model, where both have it.

    Everything where the classes are one; else what lies in the base model that they share. A name that is
    tied to one with a counterpart has it too.
    """
    names, others = tensors(model), tensors(other)
    found = {}
    for prefix, other_prefix in _shared_modules(model, other):
        for name in names:
            twin = other_prefix + name[len(prefix) :]
            if name.startswith(prefix) and twin in others and others[twin].shape == names[name].shape:
                found[name] = twin
    for tied in units(model):
        for name in tied:
            twin = next((found[n] for n in tied if n in found), None)
            if twin is not None:
                found.setdefault(name, twin)
    return found


@dataclass
class Difference:
    """How loaded weights differ from what they must be; empty where they are right.

    Attributes:
        unmerged: tensors that are still the task model's own, though θ₀ has them.
        other: tensors of the base model that are something else altogether.
        moved: tensors of the head that are not the task model's own.
    """

    unmerged: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    merged: int = 0
    copied: int = 0


def compare(
    output: PreTrainedModel,
    task: PreTrainedModel,
    base: PreTrainedModel,
    languages: list[tuple[float, PreTrainedModel]],
) -> Difference:
    """Hold a merged model against θ₀ + (θ_T − θ₀) + Σ λ (θ_i − θ₀), and the task model's own head."""
    found, own, start = tensors(output), tensors(task), tensors(base)
    in_base = counterparts(task, base)
    in_languages = [(weight, counterparts(task, model), tensors(model)) for weight, model in languages]
    difference = Difference()
    for name, *_ in units(task):
        twin = in_base.get(name)
        if twin is None or not own[name].is_floating_point():
            difference.copied += 1
            if not torch.equal(found[name], own[name]):
                difference.moved.append(name)
            continue
        difference.merged += 1
        begin = start[twin].double()
        wanted = begin + (own[name].double() - begin)
        for weight, names, values in in_languages:
            if name in names:
                wanted = wanted + weight * (values[names[name]].double() - begin)
        if not torch.allclose(found[name].double(), wanted, atol=TOLERANCE, rtol=0):
            same = torch.equal(found[name], own[name])
            (difference.unmerged if same else difference.other).append(name)
    return difference


def _held(model: PreTrainedModel) -> dict[str, Tensor]:
    return dict(model.state_dict(keep_vars=True))


def _shared_modules(model: PreTrainedModel, other: PreTrainedModel) -> list[tuple[str, str]]:
    """Prefixes of the modules that both models have below their heads."""
    if type(model) is type(other):
        return [("", "")]
    one, two = model.base_model, other.base_model
    here, there = _prefix(model, one), _prefix(other, two)
    if type(one) is type(two):
        return [(here, there)]
    if one is not model and (inner := _inside(two, type(one))) is not None:
        return [(here, there + inner)]
    if two is not other and (inner := _inside(one, type(two))) is not None:
        return [(here + inner, there)]
    children = dict(two.named_children())
    return [
        (f"{here}{name}.", f"{there}{name}.")
        for name, child in one.named_children()
        if type(children.get(name)) is type(child)
    ]


def _prefix(model: PreTrainedModel, module: torch.nn.Module) -> str:
    return next(f"{name}." if name else "" for name, found in model.named_modules() if found is module)


def _inside(module: torch.nn.Module, kind: type) -> str | None:
    return next((f"{name}." for name, found in module.named_modules() if name and type(found) is kind), None)
