"""Writes lm-eval's task files, eval_tasks/, from `catalog.yaml`: ``python -m taxlt_mergekit.paper.tasks``.

One folder a benchmark, in the shape of lm-eval's own task folders: a file that all languages include, a
short file a language, a group whose members are the languages of the paper's mean, and where there are other
languages a second group of all (``_all``); each for the test split and (``_dev``) for the validation split.
"""

from pathlib import Path
from typing import Any

import yaml

import taxlt_mergekit
from taxlt_mergekit.paper import catalog

HEADER = "# Written by taxlt_mergekit/paper/tasks.py from catalog.yaml; change it there.\n"
# (doc_to_text, what a generative model answers for each label in the catalog's order). The first is GPT-3's
# for ANLI, as in lm-eval's afrixnli, anli and glue/mnli; the others are worded as its glue/sst2.
PROMPTS = {
    "multinli": (
        "{{premise}}\nQuestion: {{hypothesis}} True, False, or Neither?\nAnswer:",
        ["True", "Neither", "False"],
    ),
    "smsa": (
        "{{text}}\nQuestion: Is this text negative, neutral, or positive?\nAnswer:",
        ["negative", "neutral", "positive"],
    ),
    "marc": (
        "Title: {{title}}\nReview: {{body}}\nQuestion: Is this review negative or positive?\nAnswer:",
        ["negative", "positive"],
    ),
}
UTILS = '''"""The class of these tasks: taxlt-mergekit's where it is installed, lm-eval's own elsewhere."""

try:
    import taxlt_mergekit
    from taxlt_mergekit.evaluate.task import BenchmarkTask as Base

    taxlt_mergekit.register()  # where TAXLT_NO_AUTOLOAD keeps it from doing so by itself
except ImportError:
    from lm_eval.api.task import ConfigurableTask as Base


class Task(Base):
    def __init__(self, config):
        # lm-eval leaves this key in the configuration, where its own class does not take it.
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
'''


class _Function(str):
    """A value that lm-eval's YAML loader resolves: ``!function module.name``."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.add_representer(_Function, lambda dumper, value: dumper.represent_scalar("!function", value))


def task_folder() -> Path:
    """The folder eval_tasks: inside the package where a wheel is installed, beside it in a checkout."""
    package = Path(taxlt_mergekit.__file__).parent
    inside = package / "eval_tasks"
    return inside if inside.is_dir() else package.parent / "eval_tasks"


def task_files() -> dict[str, str]:
    """Every generated file: its path relative to eval_tasks, and its text."""
    files = {}
    for name, benchmark in catalog.load().benchmarks.items():
        group = benchmark.group
        files[f"{group}/utils.py"] = UTILS
        files[f"{group}/{group}_common_yaml"] = _yaml(_common(benchmark))
        for prefix, split in (group, {}), (f"{group}_dev", {"test_split": "validation"}):
            files[f"{group}/{prefix}.yaml"] = _yaml(_group(benchmark, prefix))
            if benchmark.outside_mean:
                files[f"{group}/{prefix}_all.yaml"] = _yaml(_group_of_all(benchmark, prefix))
            for code in benchmark.tasks:
                files[f"{group}/{prefix}_{code}.yaml"] = _yaml(
                    {"include": f"{group}_common_yaml", "task": f"{prefix}_{code}"}
                    | _data(benchmark, code)
                    | split
                    | {"metadata": {"version": 1.0, "benchmark": name, "language": code}}
                )
    return files


def write(folder: Path) -> list[Path]:
    """Write every generated file under `folder`, and return their paths."""
    paths = []
    for name, text in task_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _common(benchmark: catalog.Benchmark) -> dict[str, Any]:
    common: dict[str, Any] = {"class": _Function("utils.Task")}
    # Without a copy on the hub, lm-eval alone reads the user's own files, from the folder it is called in.
    common["dataset_path"] = benchmark.hub.path if benchmark.hub else "json"
    if benchmark.hub is None:
        common["process_docs"] = _Function("reviews.binarise")
    return common | task_config(benchmark, "metrics")


def task_config(benchmark: catalog.Benchmark, module: str) -> dict[str, Any]:
    """Prompt, splits and metrics of a benchmark's tasks, in lm-eval's words.

    Args:
        module: the file beside the YAML that has the functions of macro-F1.
    """
    text, choices = PROMPTS[benchmark.task_vector]
    config: dict[str, Any] = {
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "test_split": "test",
        "fewshot_split": "validation",
        "doc_to_text": text,
        "doc_to_choice": choices,
        "doc_to_target": "label",
    }
    metrics: list[dict[str, Any]] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    if benchmark.metric == "f1_macro":
        config["process_results"] = _Function(f"{module}.process_results")
        macro = {
            "metric": "f1_macro",
            "aggregation": _Function(f"{module}.f1_macro"),
            "higher_is_better": True,
        }
        error = {"metric": "f1_macro_stderr", "aggregation": _Function(f"{module}.f1_macro_stderr")}
        metrics = [macro, *metrics, error | {"higher_is_better": False}]
    return config | {"metric_list": metrics}


def _data(benchmark: catalog.Benchmark, code: str) -> dict[str, Any]:
    """Where lm-eval finds the language without this package."""
    if benchmark.hub and benchmark.hub.data_files is None:
        return {"dataset_name": code}
    of_split = benchmark.hub.data_files if benchmark.hub else {k: v[0] for k, v in benchmark.files.items()}
    files = {
        split: benchmark.fill(file, code) for split, file in (of_split or {}).items() if split != "train"
    }
    return {"dataset_kwargs": {"data_files": files}}


def _group(benchmark: catalog.Benchmark, prefix: str) -> dict[str, Any]:
    """A group with the unweighted mean over the paper's languages; its tasks are `<prefix>_<code>`."""
    means = ["f1_macro", "acc"] if benchmark.metric == "f1_macro" else ["acc"]
    return {
        "group": prefix,
        "task": [f"{prefix}_{code}" for code in benchmark.languages],
        "aggregate_metric_list": [
            {"metric": metric, "aggregation": "mean", "weight_by_size": False} for metric in means
        ],
        "metadata": {"version": 1.0},
    }


def _group_of_all(benchmark: catalog.Benchmark, prefix: str) -> dict[str, Any]:
    """The group and the languages outside its mean; it has no mean of its own, which nobody could compare."""
    return {
        "group": f"{prefix}_all",
        "task": [prefix, *(f"{prefix}_{code}" for code in benchmark.outside_mean)],
        "metadata": {"version": 1.0},
    }


def _yaml(content: dict[str, Any]) -> str:
    return HEADER + to_yaml(content)


def to_yaml(content: dict[str, Any]) -> str:
    """A config of lm-eval as YAML, functions included."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    print(f"wrote {len(write(task_folder()))} files under {task_folder()}")
