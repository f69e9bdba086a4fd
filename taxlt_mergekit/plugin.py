"""What each host module gets once it has run. Called by `_startup`; imports as little as it can.

Each function takes the host's module and changes it in place; calling it twice changes nothing more.
"""

from types import ModuleType


def add_merge_methods(registry: ModuleType) -> None:
    """mergekit.merge_methods.registry: the methods `xlt_additive` and `xlt_analogy`."""


def wrap_planner(plan: ModuleType) -> None:
    """mergekit.plan"""


def wrap_run_merge(merge: ModuleType) -> None:
    """mergekit.merge"""


def explain_yaml_errors(run_yaml: ModuleType) -> None:
    """mergekit.scripts.run_yaml"""


def add_models(models: ModuleType) -> None:
    """lm_eval.models: the model `hf-seq-cls`, imported by lm-eval when it is asked for."""
    from lm_eval.api.registry import model_registry

    model_registry.register("hf-seq-cls", target="taxlt_mergekit.classifier_lm:SequenceClassifierLM")


def add_tasks(manager: ModuleType) -> None:
    """lm_eval.tasks.manager: our task folder, after the built-in ones and before the user's."""
