"""What each host module gets once it has run. Called by `_startup`; imports as little as it can.

Each function takes the host's module and changes it in place; calling it twice changes nothing more.
"""

import atexit
import functools
import gc
import sys
from types import ModuleType


def add_merge_methods(registry: ModuleType) -> None:
    """mergekit.merge_methods.registry: `xlt_additive` and `xlt_analogy`, which register themselves."""
    import taxlt_mergekit.merge.method  # noqa: F401


def refuse_merges_in_memory(actors: ModuleType) -> None:
    """TODO."""


def wrap_planner(plan: ModuleType) -> None:
    """mergekit.plan: our merges are planned with θ₀ as base, and completed before they run."""
    planner = plan.MergePlanner
    stock_init, stock_plan, stock_to_disk = planner.__init__, planner._plan, planner.plan_to_disk
    if hasattr(stock_init, "__wrapped__"):
        return

    @functools.wraps(stock_init)
    def init(self, config, *args, **kwargs):
        from taxlt_mergekit.errors import UserError
        from taxlt_mergekit.merge.method import METHODS
        from taxlt_mergekit.merge.plan import OutputConfiguration

        self._taxlt_output = config if isinstance(config, OutputConfiguration) else None
        if self._taxlt_output is not None:
            config = config._recipe
        elif config.merge_method in METHODS:
            raise UserError(
                f"{config.merge_method}: merges run through mergekit's run_merge (as mergekit-yaml and "
                "mergekit-multi do), not through a MergePlanner of its own"
            )
        stock_init(self, config, *args, **kwargs)

    @functools.wraps(stock_plan)
    def plan_tensors(self):
        stock_plan(self)
        if self._taxlt_output is not None:
            from taxlt_mergekit.merge.plan import complete_plan

            self._tensors = complete_plan(self._taxlt_output, self._tensors)

    @functools.wraps(stock_to_disk)
    def plan_to_disk(self, out_path):
        tasks = stock_to_disk(self, out_path)
        if self._taxlt_output is None:
            return tasks
        from taxlt_mergekit.merge.writer import stream_output

        return stream_output(tasks)

    planner.__init__, planner._plan, planner.plan_to_disk = init, plan_tensors, plan_to_disk


def complete_run_merge(merge: ModuleType) -> None:
    """mergekit.merge: `run_merge`, the one door of mergekit-yaml, mergekit-multi and disk merges."""
    stock_run, stock_info, stock_card = merge.run_merge, merge.get_architecture_info, merge.generate_card
    if hasattr(stock_run, "__wrapped__"):
        return

    @functools.wraps(stock_run)
    def run_merge(merge_config, out_path, options, config_source=None):
        from taxlt_mergekit.merge.method import METHODS

        if merge_config.merge_method not in METHODS:
            return stock_run(merge_config, out_path, options, config_source)
        from taxlt_mergekit.merge import run as merging

        return merging.run(stock_run, merge_config, out_path, options, config_source)

    @functools.wraps(stock_info)
    def get_architecture_info(config, options):
        layout = getattr(config, "_layout", None)
        return stock_info(config, options) if layout is None else layout.architecture

    @functools.wraps(stock_card)
    def generate_card(config, config_yaml, name=None):
        if getattr(config, "_layout", None) is None:
            return stock_card(config=config, config_yaml=config_yaml, name=name)
        from taxlt_mergekit.merge import run as merging

        return merging.card(config, config_yaml)

    vars(merge).update(get_architecture_info=get_architecture_info, generate_card=generate_card)
    # Modules that were imported before an explicit register() hold the stock function by name.
    for module in list(sys.modules.values()):
        if vars(module).get("run_merge") is stock_run:
            vars(module)["run_merge"] = run_merge


def complete_command(run_yaml: ModuleType) -> None:
    """mergekit.scripts.run_yaml: a recipe that cannot be parsed is one line, and the process ends at once."""
    command = run_yaml.main
    stock = command.callback
    if hasattr(stock, "__taxlt__"):
        return

    @functools.wraps(stock)
    def callback(*args, **kwargs):
        import yaml
        from pydantic import ValidationError

        from taxlt_mergekit.errors import UserError

        atexit.register(gc.freeze)  # else Python goes through all that was imported once more, for a second
        recipe = kwargs.get("config_file", "the recipe")
        try:
            return stock(*args, **kwargs)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise UserError(f"{recipe}{where}: not valid YAML: {problem}") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the recipe"
            raise UserError(f"{recipe}: {key}: {first['msg']}") from error
        except FileNotFoundError as error:
            if error.filename != recipe:
                raise
            raise UserError(f"{recipe}: no such recipe") from error

    callback.__taxlt__ = True  # type: ignore[attr-defined]
    command.callback = callback
