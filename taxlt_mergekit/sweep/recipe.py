"""A mergekit recipe that is swept: the file, and which benchmark, language and tasks it is about."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.errors import UserError, one_line, translated
from taxlt_mergekit.merge.methods.table import METHODS
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.remedies import for_recipe
from taxlt_mergekit.paper.variants import split_recipe_name, variant_of


@dataclass(frozen=True)
class Recipe:
    """A recipe file and what it is about.

    Attributes:
        variant: the paper's, or the file's name where the paper has none.
        benchmark: its key in the catalog, or None.
        language: of the file's name, or None.
        tasks: validation tasks.
        test_tasks: the same languages' test tasks.
        roles: roles of its language vectors.
        groups: filters and the groups of tensors that they find, where λ is searched by group.
    """

    path: str
    text: str
    config: MergeConfiguration
    variant: str
    benchmark: str | None
    language: str | None
    tasks: tuple[str, ...]
    test_tasks: tuple[str, ...]
    roles: frozenset[str]
    groups: tuple[tuple[str | None, str], ...] = ()

    @property
    def varied(self) -> frozenset[str]:
        """Which of a grid's parameters the recipe's method has."""
        method = METHODS[self.config.merge_method]
        return frozenset({"weight", "density", "select", "scope"} & {*method.per_model, *method.shared})

    @property
    def models(self) -> list[ModelReference]:
        """Its models in their order, without θ₀."""
        return [entry.model for entry in self.config.models or []]

    @property
    def inputs(self) -> set[ModelReference | None]:
        """All that it reads, θ₀ included where it names one."""
        return {self.config.base_model, *self.models}

    @property
    def start(self) -> tuple[str, ...]:
        """What recipes must share to share a loaded model: θ₀, the task model and the output's type."""
        tasks = [str(model) for model, settings in self._settings() if settings.get("role") == "task"]
        return (str(self.config.base_model or ""), *tasks, str(self.config.out_dtype or self.config.dtype))

    @property
    def group(self) -> tuple[str | None, str, tuple[str, ...]]:
        """Recipes whose scaling factor is chosen together: one variant of one benchmark and task model."""
        return self.benchmark, self.variant, self.start

    @cached_property
    def parameters(self) -> Parameters:
        """What the recipe itself says, where it says one number (of a recipe that is not refused)."""
        method = METHODS[self.config.merge_method]
        defaults = {p.name: p.default for p in method.spec.parameters if not p.required}
        weights: dict[str, set[float | None]] = {"source": set(), "target": set()}
        densities: set[float | None] = set()
        for _, settings in self._settings():
            if settings.get("role") in weights:
                weights[settings["role"]].add(_number(settings.get("weight", defaults.get("weight"))))
                densities.add(_number(settings.get("density", defaults.get("density"))))
        shared: dict[str, Any] = defaults | (self.config.parameters or {})
        return Parameters(
            source_weight=_only(weights["source"]),
            target_weight=_only(weights["target"]),
            density=_only(densities),
            select=shared["select"] if "select" in method.shared else None,
            scope=shared["scope"] if "scope" in method.shared else None,
        )

    def _settings(self) -> list[tuple[ModelReference, dict[str, Any]]]:
        shared: dict[str, Any] = self.config.parameters or {}
        return [(entry.model, shared | (entry.parameters or {})) for entry in self.config.models or []]


def read_recipe(path: Path, tasks: str | None = None, test_tasks: str | None = None) -> Recipe:
    """Read a recipe and find its tasks: from the catalog by its name, or from what the user says.

    Args:
        path: `<language>_<variant>.yml`, as `taxlt recipes` names them, or any other name with `tasks`. What
            stands between dots (`quy_plus_tgt.ties.yml`) tells recipes of one language and variant apart.
        tasks: validation tasks, comma-separated; `{language}` stands for the recipe's language.
        test_tasks: the same for test tasks.

    Raises:
        UserError: no such file, not YAML, not one of our recipes, no language vector, or no language to put
            into the tasks.
    """
    text, config = parse_recipe(path, "a sweep")
    roles = {
        str(role)
        for entry in config.models or []
        if (role := (entry.parameters or {}).get("role")) is not None
    } - {"task"}
    if not roles and METHODS[config.merge_method].needs_language:
        raise UserError(f"{path}: has no language vector, so there is no scaling factor to vary")
    subject, _ = split_recipe_name(path.name.partition(".")[0]) or (None, "")
    benchmark, language = catalog.recipe_subject(subject) if subject else (None, None)
    dev, test = _known_tasks(benchmark, language)
    return Recipe(
        path=str(path),
        text=text,
        config=config,
        variant=variant_of(config.merge_method, roles) or path.stem,
        benchmark=benchmark,
        language=language,
        tasks=_named_tasks(tasks, language, path) or dev,
        test_tasks=_named_tasks(test_tasks, language, path) or (() if tasks else test),
        roles=frozenset(roles),
    )


def parse_recipe(path: Path, who: str) -> tuple[str, MergeConfiguration]:
    """The text of a recipe of one of our methods, and the recipe as mergekit understands it.

    Args:
        who: what takes such recipes, for the message.

    Raises:
        UserError: no such file, not UTF-8, not YAML, no recipe, or one of another method.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({one_line(error)}); save it as UTF-8") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe{for_recipe(path)}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    with translated(f"{path}: not a mergekit recipe"):
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
    if config.merge_method not in METHODS:
        raise UserError(f"{path}: merge_method is {config.merge_method}; {who} takes {', '.join(METHODS)}")
    return text, config


def _known_tasks(benchmark: str | None, language: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Validation and test tasks of a catalog recipe; all languages where it has none of its own (+SRC)."""
    if benchmark is None:
        return (), ()
    entry = catalog.load().benchmarks[benchmark]
    codes = [language] if language else list(entry.languages)
    return (
        tuple(f"{entry.group}_dev_{code}" for code in codes),
        tuple(f"{entry.group}_{code}" for code in codes),
    )


def _named_tasks(names: str | None, language: str | None, path: Path) -> tuple[str, ...]:
    if not names:
        return ()
    if "{language}" in names and not language:
        raise UserError(f"{path}: its name has no language to put for {{language}} in the task names")
    return tuple(
        name.strip().replace("{language}", language or "") for name in names.split(",") if name.strip()
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None


def _only(values: set[float | None]) -> float | None:
    return next(iter(values)) if len(values) == 1 else None
