"""TODO"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from pydantic import ValidationError

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.merge.method import METHODS
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.variants import split_recipe_name, variant_of


@dataclass(frozen=True)
class Recipe:
    """A recipe file and what it is about.

    Attributes:
        tasks: validation tasks.
        test_tasks: the same languages' test tasks.
        roles: roles of its language vectors.
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

    @property
    def group(self) -> tuple[str | None, str, tuple[str, ...]]:
        """Recipes whose scaling factor is chosen together: one variant of one benchmark and task model."""
        return self.benchmark, self.variant, start(self)


def read_recipe(path: Path, tasks: str | None = None, test_tasks: str | None = None) -> Recipe:
    """Read a recipe and find its tasks: from the catalog by its name, or from what the user says.

    Args:
        path: `<language>_<variant>.yml`, as `taxlt recipes` names them, or any other name with `tasks`.
        tasks: validation tasks, comma-separated; `{language}` stands for the recipe's language.
        test_tasks: the same for test tasks.

    Raises:
        UserError: no such file, not YAML, not one of our recipes, no language vector, or no task known.
    """
    try:
        text = path.read_text(encoding="utf-8")
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValidationError, RuntimeError) as error:
        raise UserError(f"{path}: not a mergekit recipe ({str(error).splitlines()[0]})") from None
    if config.merge_method not in METHODS:
        raise UserError(
            f"{path}: merge_method is {config.merge_method}; a sweep takes {' and '.join(METHODS)}"
        )
    roles = {
        str(role)
        for entry in config.models or []
        if (role := (entry.parameters or {}).get("role")) is not None
    } - {"task"}
    if not roles:
        raise UserError(f"{path}: has no language vector, so there is no scaling factor to vary")
    variant = variant_of(config.merge_method, roles) or path.stem
    named = split_recipe_name(path.stem)
    benchmark, language = _subject(named[0] if named else None)
    dev, test = _tasks(benchmark, language)
    return Recipe(
        path=str(path),
        text=text,
        config=config,
        variant=variant,
        benchmark=benchmark,
        language=language,
        tasks=_named_tasks(tasks, language, path) or dev,
        test_tasks=_named_tasks(test_tasks, language, path) or (() if tasks else test),
        roles=frozenset(roles),
    )


def _models(recipe: Recipe) -> list[ModelReference]:
    return [entry.model for entry in recipe.config.models or []]


def start(recipe: Recipe) -> tuple[str, ...]:
    """What recipes must share to share a loaded model: θ₀, the task model and the output's type."""
    config = recipe.config
    shared = config.parameters or {}
    tasks = [
        str(entry.model)
        for entry in config.models or []
        if (shared | (entry.parameters or {})).get("role") == "task"
    ]
    return (str(config.base_model), *tasks, str(config.out_dtype or config.dtype))


def _subject(name: str | None) -> tuple[str | None, str | None]:
    """Benchmark and language of a recipe's name before the variant: `quy`, `marc_de`, `nusax`, or other."""
    for key, benchmark in catalog.load().benchmarks.items():
        if name == key:
            return key, None
        if name and name.startswith(benchmark.recipe_prefix):
            code = name[len(benchmark.recipe_prefix) :]
            if code in benchmark.languages:
                return key, code
    return None, name


def _tasks(benchmark: str | None, language: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
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
