"""Every change to mergekit, each a function that gets a module of it (`hook.HOSTS`) and changes it in place.

Merges by mergekit's own methods run as they do without this package.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


def add_merge_methods(_registry: ModuleType) -> None:
    """mergekit.merge_methods.registry: all methods, which register themselves."""
    import taxlt_mergekit.merge.methods.table  # noqa: F401


def complete_run_merge(host: Any) -> None:
    """mergekit.merge: a merge of ours takes head, config and tokenizer from the task model.

    `run_merge` is the one door of mergekit-yaml, mergekit-multi and the disk merges of mergekit-evolve. It
    hands a merge of ours to `merge.run`, which calls it again with an `OutputConfiguration`; for that the
    architecture, the plan and the card are ours.
    """
    run_merge = host.run_merge

    @functools.wraps(run_merge)
    def run(merge_config: Any, out_path: str, options: Any, config_source: str | None = None) -> None:
        if not _is_ours(merge_config):
            return run_merge(merge_config, out_path, options, config_source)
        from taxlt_mergekit.merge.run import run as merge_vectors

        return merge_vectors(run_merge, merge_config, out_path, options, config_source)

    def architecture(merge: Any, _config: Any, _options: Any) -> Any:
        return merge.layout.architecture

    def planner(merge: Any, _config: Any, _architecture: Any, options: Any, out_model_config: Any) -> Any:
        from taxlt_mergekit.merge.plan import VectorPlanner

        return VectorPlanner(merge, options, out_model_config)

    def card(merge: Any, config: Any, config_yaml: str, name: str | None = None) -> str:
        from taxlt_mergekit.merge.card import model_card

        return model_card(merge, config_yaml)

    vars(host).update(
        get_architecture_info=_for_our_merges(host.get_architecture_info, architecture),
        MergePlanner=_for_our_merges(host.MergePlanner, planner),
        generate_card=_for_our_merges(host.generate_card, card),
    )
    # Modules that were imported before an explicit register() hold the stock function by name.
    for module in list(sys.modules.values()):
        if vars(module).get("run_merge") is run_merge:
            vars(module)["run_merge"] = run


def _is_ours(config: Any) -> bool:
    from taxlt_mergekit.merge.methods.table import METHODS

    return config.merge_method in METHODS


def _for_our_merges(stock: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """`ours`, with the `Merge` as first argument, where `config` is a merge of ours; else `stock`."""

    @functools.wraps(stock, updated=())
    def choose(config: Any, *args: Any, **kwargs: Any) -> Any:
        merge = getattr(config, "merge", None)
        return stock(config, *args, **kwargs) if merge is None else ours(merge, config, *args, **kwargs)

    return choose


def refuse_merges_in_memory(actors: Any) -> None:
    """mergekit.evo.actors: merges in memory, which would lose the head, are refused for our methods."""
    stock = actors.MergePlanner

    @functools.wraps(stock, updated=())
    def planner(config: Any, *args: Any, **kwargs: Any) -> Any:
        from taxlt_mergekit.errors import UserError

        if _is_ours(config):
            raise UserError(
                f"{config.merge_method}: merges go to disk, through run_merge (as mergekit-yaml and "
                "mergekit-multi do); run mergekit-evolve without --in-memory"
            )
        return stock(config, *args, **kwargs)

    actors.MergePlanner = planner


def complete_command(script: Any) -> None:
    """mergekit.scripts.run_yaml: a recipe that cannot be parsed is one line."""
    callback = script.main.callback

    @functools.wraps(callback)
    def main(*args: Any, **kwargs: Any) -> None:
        with _one_line_for_a_bad_recipe(kwargs["config_file"]):
            callback(*args, **kwargs)

    script.main.callback = main


@contextlib.contextmanager
def _one_line_for_a_bad_recipe(recipe: str) -> Iterator[None]:
    """Errors of parsing a recipe, by its path, in one line."""
    import yaml
    from pydantic import ValidationError

    from taxlt_mergekit.errors import UserError, first_line, one_line
    from taxlt_mergekit.paper.remedies import for_recipe

    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{recipe}{where}: not valid YAML: {problem}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the recipe"
        raise UserError(f"{recipe}: {key}: {first['msg']}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{recipe}: is not UTF-8 text ({one_line(error)}); save it as UTF-8") from error
    except OSError as error:
        if error.filename != recipe:
            raise
        missing = isinstance(error, FileNotFoundError)
        why = f"no such recipe{for_recipe(Path(recipe))}" if missing else f"cannot be read: {error.strerror}"
        raise UserError(f"{recipe}: {why}") from error
