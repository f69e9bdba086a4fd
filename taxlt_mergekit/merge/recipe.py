"""What is wrong with a recipe, found before any weight is read, and said in one line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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
from taxlt_mergekit.merge.methods.base import CheckpointMethod
from taxlt_mergekit.merge.methods.table import METHODS
from taxlt_mergekit.merge.methods.values import check_value, suggest


@dataclass(frozen=True)
class Cast:
    """Who plays which part in a merge, in the recipe's order.

    Attributes:
        base: θ₀; where the recipe names none, the model that the task model is laid beside to tell body from
            head: the first language model, else the second task model.
        task: θ_T, the first of them where there are several.
        roles: every model with a vector, the task model included, and its role.
        names_base: the recipe has a base_model.
        adds_base: θ₀ takes part in the arithmetic.
    """

    base: ModelReference
    task: ModelReference
    roles: dict[ModelReference, str]
    names_base: bool = True
    adds_base: bool = True

    @property
    def models(self) -> list[ModelReference]:
        return list(dict.fromkeys([self.base, *self.roles]))

    @property
    def tasks(self) -> list[ModelReference]:
        """All task models; the first is `task`."""
        return [model for model, role in self.roles.items() if role == "task"]

    @property
    def shown_base(self) -> str:
        """`base`, as an error names it."""
        return f"base_model {self.base}" if self.names_base else str(self.base)


def check_recipe(config: MergeConfiguration, source: str | None = None) -> Cast:
    """Check a recipe of one of our methods.

    Args:
        config: the recipe as mergekit parsed it.
        source: its text where there is one; mergekit's parser drops keys that it does not know.

    Raises:
        UserError: the first thing that is wrong.
    """
    method = METHODS[config.merge_method]
    if source is not None:
        _check_keys(yaml.load(source, _OnceOnly), method)
    if config.base_model is None and method.needs_base:
        raise UserError(f"{config.merge_method} needs base_model, the model θ₀ that all vectors start from")
    for settings in _outer_settings(config):
        _check_settings("parameters", settings, (*method.shared, *method.per_model), method)
    roles: dict[ModelReference, str] = {}
    for definition, inherited in model_definitions(config):
        model, settings = definition.model, definition.parameters or {}
        if model == config.base_model:
            if settings:
                raise UserError(
                    f"{model}: base_model is θ₀ and takes no parameters, but has {', '.join(settings)}"
                )
            continue
        _check_settings(f"{model}", settings, method.per_model, method)
        role = _role(model, inherited | settings)
        if roles.setdefault(model, role) != role:
            raise UserError(f"{model}: has two roles, {roles[model]} and {role}; a model has one")
        method.check_model(f"{model}", role, inherited | settings)
    outer = {name for settings in _outer_settings(config) for name in settings}
    if lacking := [name for name in method.shared if method.parameter(name).required and name not in outer]:
        raise UserError(f"parameters: parameter '{lacking[0]}' is missing; {method.spec.name} needs one")
    task = _the_task(roles, method)
    base = config.base_model if method.takes_base else None
    method.check_roles(roles, base)
    others = sorted((model for model in roles if model != task), key=lambda model: roles[model] == "task")
    return Cast(
        config.base_model or (others or [task])[0],
        task,
        roles,
        names_base=config.base_model is not None,
        adds_base=base is not None,
    )


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


def _the_task(roles: dict[ModelReference, str], method: CheckpointMethod) -> ModelReference:
    tasks = [model for model, role in roles.items() if role == "task"]
    if not tasks:
        raise UserError(
            f"{method.spec.name}: no model has role: task; the output's head, config and tokenizer come from "
            "one"
        )
    if len(tasks) > 1 and not method.several_tasks:
        raise UserError(
            f"{tasks[1]}: a second task model beside {tasks[0]}; the output can have the head of only one"
        )
    return tasks[0]


def _check_settings(
    owner: str, settings: dict[str, ParameterSetting], allowed: Iterable[str], method: CheckpointMethod
) -> None:
    for name, setting in settings.items():
        if name not in allowed:
            if name in method.shared:
                raise UserError(
                    f"{owner}: parameter '{name}' holds for the whole merge; "
                    "put it under the recipe's own parameters"
                )
            raise UserError(
                f"{owner}: unknown parameter '{name}'{suggest(name, allowed)}; known to {method.spec.name}: "
                f"{', '.join(allowed) or 'none'}"
            )
        for value in setting_values(setting):
            check_value(owner, method.parameter(name), value, method.spec.name)


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


def _check_keys(document: Any, method: CheckpointMethod) -> None:
    """Refuse what mergekit's own models would silently drop."""
    if not isinstance(document, dict):
        return
    parameters = (*method.per_model, *method.shared)
    _known(document, MergeConfiguration, "the recipe", parameters, extra=("name",))
    for entry in document.get("models") or []:
        _known(entry, InputModelDefinition, "models", parameters)
    _check_slices(document.get("slices"), parameters)
    for module in (document.get("modules") or {}).values():
        _known(module, OutputModuleDefinition, "modules", parameters, extra=("name",))
        for entry in (module or {}).get("models") or []:
            _known(entry, InputModelDefinition, "models", parameters)
        _check_slices((module or {}).get("slices"), parameters)


def _check_slices(slices: Any, parameters: tuple[str, ...]) -> None:
    for piece in slices or []:
        _known(piece, OutputSliceDefinition, "slices", parameters)
        for entry in piece.get("sources") or []:
            _known(entry, InputSliceDefinition, "sources", parameters)


def _known(
    entry: Any, model: type, where: str, parameters: tuple[str, ...], extra: tuple[str, ...] = ()
) -> None:
    if not isinstance(entry, dict):
        return
    fields = (*model.model_fields, *extra)  # type: ignore[attr-defined]
    for key in entry:
        if key not in fields:
            name = f"{where}: {entry['model']}" if "model" in entry else where
            hint = "; put it under parameters" if key in parameters else suggest(key, fields)
            raise UserError(f"{name}: unknown key '{key}'{hint}")
