"""What each host module gets once it has run. Called by `_startup`; imports as little as it can.

Each function takes the host's module and changes it in place; calling it twice changes nothing more.
"""

import atexit
import functools
import gc
import sys
from pathlib import Path
from types import ModuleType


def add_merge_methods(registry: ModuleType) -> None:
    """mergekit.merge_methods.registry: the methods `xlt_additive` and `xlt_analogy`."""
    methods = sys.modules.get("taxlt_mergekit.methods")
    if methods is not None and not hasattr(methods, "METHODS"):
        return  # its own import brought mergekit in; it calls again at its end
    from taxlt_mergekit.methods import METHODS

    known = {method.spec.name for method in registry.registered_methods()}
    for name, method in METHODS.items():
        if name not in known:
            registry.register(method)


def wrap_planner(plan: ModuleType) -> None:
    """mergekit.plan: our merges are planned with θ₀ as base, and completed before they run."""
    planner = plan.MergePlanner
    stock_init, stock_plan, stock_to_disk = planner.__init__, planner._plan, planner.plan_to_disk
    if hasattr(stock_init, "__wrapped__"):
        return

    @functools.wraps(stock_init)
    def init(self, config, *args, **kwargs):
        from taxlt_mergekit.errors import UserError
        from taxlt_mergekit.merging import OutputConfiguration
        from taxlt_mergekit.methods import METHODS

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
            from taxlt_mergekit.merging import complete_plan

            self._tensors = complete_plan(self._taxlt_output, self._tensors)

    @functools.wraps(stock_to_disk)
    def plan_to_disk(self, out_path):
        tasks = stock_to_disk(self, out_path)
        if self._taxlt_output is None:
            return tasks
        from taxlt_mergekit.writer import stream_output

        return stream_output(tasks)

    planner.__init__, planner._plan, planner.plan_to_disk = init, plan_tensors, plan_to_disk


def wrap_run_merge(merge: ModuleType) -> None:
    """mergekit.merge: `run_merge`, the one door of mergekit-yaml, mergekit-multi and disk merges."""
    stock_run, stock_info, stock_card = merge.run_merge, merge.get_architecture_info, merge.generate_card
    if hasattr(stock_run, "__wrapped__"):
        return

    @functools.wraps(stock_run)
    def run_merge(merge_config, out_path, options, config_source=None):
        from taxlt_mergekit.methods import METHODS

        if merge_config.merge_method not in METHODS:
            return stock_run(merge_config, out_path, options, config_source)
        from taxlt_mergekit import merging

        return merging.run(stock_run, merge_config, out_path, options, config_source)

    @functools.wraps(stock_info)
    def get_architecture_info(config, options):
        layout = getattr(config, "_layout", None)
        return stock_info(config, options) if layout is None else layout.architecture

    @functools.wraps(stock_card)
    def generate_card(config, config_yaml, name=None):
        if getattr(config, "_layout", None) is None:
            return stock_card(config=config, config_yaml=config_yaml, name=name)
        from taxlt_mergekit import merging

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


def add_models(models: ModuleType) -> None:
    """lm_eval.models: the model `hf-seq-cls`, imported by lm-eval when it is asked for."""
    from lm_eval.api.registry import model_registry

    model_registry.register("hf-seq-cls", target="taxlt_mergekit.classifier_lm:SequenceClassifierLM")


def add_tasks(manager: ModuleType) -> None:
    """lm_eval.tasks.manager: our task folder, after the built-in ones and before the user's."""
    stock = manager.TaskIndex.build
    if hasattr(stock, "__wrapped__"):
        return
    built_in = Path(str(manager.__file__)).parent

    @functools.wraps(stock)
    def build(paths, **options):
        from taxlt_mergekit.task_files import task_folder

        paths = list(paths)
        index = stock(paths, **options)
        if built_in in paths:
            for name, entry in stock([task_folder()], **options).items():
                known = index.get(name)
                # Not by lm-eval's own merging, which warns of each of our tasks that a copy replaces.
                if known is None or (known.yaml_path and built_in in known.yaml_path.parents):
                    index[name] = entry
        return index

    manager.TaskIndex.build = staticmethod(build)
