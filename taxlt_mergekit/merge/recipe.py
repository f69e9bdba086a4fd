"""What is wrong with a recipe, found before any weight is read, and said in one line."""

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import yaml
from mergekit.common import ModelReference
from mergekit.config import (
    ConditionalParameter,
    InputModelDefinition,
    InputSliceDefinition,
    MergeConfiguration,
    OutputModuleDefinition,
    OutputSliceDefinition,
    ParameterSetting,
)

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.method import METHODS, PARAMETERS, Role, scaling_factor
from taxlt_mergekit.sparsity import Scope, Select

PER_MODEL = ("role", "weight", "density")
SHARED = ("select", "scope")
_CHOICES = {"role": get_args(Role), "select": get_args(Select), "scope": get_args(Scope)}

assert {p.name for p in PARAMETERS} == {*PER_MODEL, *SHARED}


@dataclass(frozen=True)
class Cast:
    """Who plays which part in a merge, in the recipe's order.

    Attributes:
        base: θ₀.
        task: θ_T.
        roles: every model with a vector, the task model included, and its role.
    """

    base: ModelReference
    task: ModelReference
    roles: dict[ModelReference, str]

    @property
    def models(self) -> list[ModelReference]:
        return [self.base, *self.roles]


def check_recipe(config: MergeConfiguration, source: str | None = None) -> Cast:
    """Check a recipe of one of our methods.

    Args:
        config: the recipe as mergekit parsed it.
        source: its text where there is one; mergekit's parser drops keys that it does not know.

    Raises:
        UserError: the first thing that is wrong.
    """
    if source is not None:
        _check_keys(yaml.load(source, _OnceOnly))
    if config.base_model is None:
        raise UserError(f"{config.merge_method} needs base_model, the model θ₀ that all vectors start from")
    for settings in _outer_settings(config):
        _check_settings("parameters", settings, (*SHARED, *PER_MODEL))
    roles: dict[ModelReference, str] = {}
    for definition, inherited in model_definitions(config):
        model, settings = definition.model, definition.parameters or {}
        if model == config.base_model:
            if settings:
                raise UserError(
                    f"{model}: base_model is θ₀ and takes no parameters, but has {', '.join(settings)}"
                )
            continue
        _check_settings(f"{model}", settings, PER_MODEL)
        role = _role(model, inherited | settings)
        if roles.setdefault(model, role) != role:
            raise UserError(f"{model}: has two roles, {roles[model]} and {role}; a model has one")
        if (inherited | settings).get("weight") is None:
            scaling_factor(f"{model}", role, None)
    return Cast(config.base_model, _the_task(roles, config.merge_method), roles)


def model_definitions(
    config: MergeConfiguration,
) -> Iterator[tuple[InputModelDefinition | InputSliceDefinition, dict[str, ParameterSetting]]]:
    """Every entry that names a model (under models, slices or modules), with the settings it inherits."""
    shared = config.parameters or {}
    yield from ((entry, shared) for entry in config.models or [])
    yield from _slice_definitions(config.slices, shared)
    for module in (config.modules or {}).values():
        inherited = shared | (module.parameters or {})
        yield from ((entry, inherited) for entry in module.models or [])
        yield from _slice_definitions(module.slices, inherited)


def _slice_definitions(
    slices: list[OutputSliceDefinition] | None, shared: dict[str, ParameterSetting]
) -> Iterator[tuple[InputSliceDefinition, dict[str, ParameterSetting]]]:
    for piece in slices or []:
        yield from ((entry, shared | (piece.parameters or {})) for entry in piece.sources)


def setting_values(setting: ParameterSetting | None) -> Iterator[Any]:
    """The plain values inside a setting: a scalar, a layer gradient, or filters."""
    if isinstance(setting, ConditionalParameter):
        yield from setting_values(setting.value)
    elif isinstance(setting, list):
        for item in setting:
            yield from setting_values(item)
    elif setting is not None:
        yield setting


def _outer_settings(config: MergeConfiguration) -> Iterator[dict[str, ParameterSetting]]:
    yield config.parameters or {}
    for piece in config.slices or []:
        yield piece.parameters or {}
    for module in (config.modules or {}).values():
        yield module.parameters or {}
        for piece in module.slices or []:
            yield piece.parameters or {}


def _role(model: ModelReference, settings: dict[str, Any]) -> str:
    role = settings.get("role")
    if role is None:
        raise UserError(f"{model}: parameter 'role' is missing; it is task, source or target")
    if not isinstance(role, str):
        raise UserError(f"{model}: role must be one word for the whole model (task, source or target)")
    return role


def _the_task(roles: dict[ModelReference, str], method: str) -> ModelReference:
    tasks = [model for model, role in roles.items() if role == "task"]
    if not tasks:
        raise UserError(
            f"{method}: no model has role: task; the output's head, config and tokenizer come from one"
        )
    if len(tasks) > 1:
        raise UserError(
            f"{tasks[1]}: a second task model beside {tasks[0]}; the output can have the head of only one"
        )
    if METHODS[method].source_sign < 0 and "source" not in roles.values():
        raise UserError(
            f"{method}: no model has role: source, so there is nothing to subtract; for +TGT use xlt_additive"
        )
    return tasks[0]


def _check_settings(owner: str, settings: dict[str, ParameterSetting], allowed: Iterable[str]) -> None:
    for name, setting in settings.items():
        if name not in allowed:
            if name in SHARED:
                raise UserError(
                    f"{owner}: parameter '{name}' holds for the whole merge; "
                    "put it under the recipe's own parameters"
                )
            raise UserError(
                f"{owner}: unknown parameter '{name}'{_suggest(name, allowed)}; known: {', '.join(allowed)}"
            )
        for value in setting_values(setting):
            _check_value(owner, name, value)


def _check_value(owner: str, name: str, value: Any) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise UserError(
                f"{owner}: {name} '{value}' is unknown{_suggest(str(value), _CHOICES[name])}; "
                f"it is {', '.join(_CHOICES[name][:-1])} or {_CHOICES[name][-1]}"
            )
        return
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if name == "weight" and not math.isfinite(number):
        raise UserError(f"{owner}: weight must be a finite number, not {value!r}")
    if name == "density" and not 0 < number <= 1:
        raise UserError(f"{owner}: density must be above 0 and at most 1, not {value!r}")


class _OnceOnly(yaml.SafeLoader):
    """yaml's safe loader, except that a key stands once; the last would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise UserError(
                    f"the recipe, line {key.start_mark.line + 1}: '{key.value}' stands twice in one block"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check_keys(document: Any) -> None:
    """Refuse what mergekit's own models would silently drop."""
    if not isinstance(document, dict):
        return
    _known(document, MergeConfiguration, "the recipe", extra=("name",))
    for entry in document.get("models") or []:
        _known(entry, InputModelDefinition, "models")
    _check_slices(document.get("slices"))
    for module in (document.get("modules") or {}).values():
        _known(module, OutputModuleDefinition, "modules", extra=("name",))
        for entry in (module or {}).get("models") or []:
            _known(entry, InputModelDefinition, "models")
        _check_slices((module or {}).get("slices"))


def _check_slices(slices: Any) -> None:
    for piece in slices or []:
        _known(piece, OutputSliceDefinition, "slices")
        for entry in piece.get("sources") or []:
            _known(entry, InputSliceDefinition, "sources")


def _known(entry: Any, model: type, where: str, extra: tuple[str, ...] = ()) -> None:
    if not isinstance(entry, dict):
        return
    fields = (*model.model_fields, *extra)  # type: ignore[attr-defined]
    for key in entry:
        if key not in fields:
            name = f"{where}: {entry['model']}" if "model" in entry else where
            hint = "; put it under parameters" if key in (*PER_MODEL, *SHARED) else _suggest(key, fields)
            raise UserError(f"{name}: unknown key '{key}'{hint}")


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
