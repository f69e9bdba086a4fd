"""Every change to lm-eval, each a function that gets a module of it (`hook.HOSTS`) and changes it."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

MODEL, CLASSIFIER = "hf-seq-cls", "taxlt_mergekit.evaluate.classifier:SequenceClassifierLM"


def add_model(_models: Any) -> None:
    """lm_eval.models: the model `hf-seq-cls`, imported by lm-eval when it is asked for."""
    from lm_eval.api.registry import model_registry

    model_registry.register(MODEL, target=CLASSIFIER)


def add_task_folder(manager: Any) -> None:
    """lm_eval.tasks.manager: our task folder, after the built-in ones and before the user's."""
    stock = manager.TaskIndex.build
    built_in = Path(str(manager.__file__)).parent

    @functools.wraps(stock)
    def build(paths, **options):
        from taxlt_mergekit.paper.tasks import task_folder

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


def name_the_task_of_requests(api: Any) -> None:
    """lm_eval.api.task: each request knows its task, whose labels a classification head needs."""
    stock = api.Task.build_all_requests

    @functools.wraps(stock)
    def build_all_requests(self: Any, **options: Any) -> None:
        stock(self, **options)
        for request in self.instances:
            request.task = self

    api.Task.build_all_requests = build_all_requests


def leave_out_of_means(api: Any) -> None:
    """lm_eval.api.group: a group whose metadata has `mean_over` averages over those members only."""
    stock = api.Group.aggregate

    @functools.wraps(stock)
    def aggregate(self: Any, task_metrics: dict) -> dict:
        if members := (self.metadata or {}).get("mean_over"):
            counted = {name: self.get(name) for name in members if name in self}
            self = replace(self, _children=counted)
        return stock(self, task_metrics)

    api.Group.aggregate = aggregate


def end_in_one_line(harness: Any) -> None:
    """lm_eval._cli.harness: a mistake that we name ends `lm_eval` in one line, not in a traceback."""
    stock = harness.HarnessCLI.execute

    @functools.wraps(stock)
    def execute(self: Any, args: Any) -> None:
        from taxlt_mergekit.errors import UserError

        try:
            stock(self, args)
        except UserError as error:
            error.show()
            raise SystemExit(error.exit_code) from error

    harness.HarnessCLI.execute = execute
