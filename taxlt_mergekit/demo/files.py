"""The files that the demo starts from: raw text, labelled rows, lm-eval tasks and mergekit recipes.

They are what a user brings for a language of their own, in the same formats and places.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from taxlt_mergekit.demo import world
from taxlt_mergekit.paper.catalog import Split, vector_folder
from taxlt_mergekit.paper.variants import VARIANTS, VariantKey

PRETRAINING_LINES = 6000
LANGUAGE_LINES = 4000
ROWS = {"train": 2000, "validation": 300, "test": 600}

BASE, TASK = "tiny", "sentiment"
UNTRAINED = "untrained"
# Where the commands write: the two sweeps, what mergekit-yaml makes, what lm_eval finds.
SWEEP, CONTROL_SWEEP = "results", "control/results"
MERGED, SCORES = "merged", "scores"
TASKS = "tasks"
COMMANDS = "commands.sh"
SOURCE = world.SOURCE.code
PRETRAINED = (world.SOURCE.code, *(plan.code for plan in world.OTHERS))
TARGETS = tuple(plan.code for plan in world.TARGETS)


def vector(kind: str, name: str) -> str:
    """Where `taxlt train` puts a vector, and recipes look for it."""
    return vector_folder(BASE, kind, name)


def text_file(kind: Literal["pretraining", "text"], code: str) -> str:
    """Raw text that θ₀ is trained on, or a language model."""
    return f"data/{kind}/{code}.txt"


def rows_file(code: str, split: str) -> str:
    return f"data/labelled/{code}_{split}.jsonl"


def task(code: str, split: Split = "test") -> str:
    """The name of a language's lm-eval task."""
    return f"demo_dev_{code}" if split == "dev" else f"demo_{code}"


def recipe_file(variant: VariantKey, code: str, control: bool = False) -> str:
    return f"{'control' if control else 'recipes'}/{code}_{variant}.yml"


def write_inputs(folder: Path, seed: int) -> None:
    """Write everything that comes before the first command, drawn from `seed`."""
    languages = world.languages(seed)
    pretrained = [languages[code] for code in PRETRAINED]
    for language in pretrained:
        others = [other for other in pretrained if other is not language]
        lines = world.raw_text(language, PRETRAINING_LINES, seed, others)
        _write(folder / text_file("pretraining", language.code), "".join(f"{line}\n" for line in lines))
    for code in (SOURCE, *TARGETS):
        lines = world.raw_text(languages[code], LANGUAGE_LINES, seed)
        _write(folder / text_file("text", code), "".join(f"{line}\n" for line in lines))
        # Labels of a target language are for choosing λ and for testing alone.
        for split in ROWS if code == SOURCE else ("validation", "test"):
            rows = world.labelled_text(languages[code], ROWS[split], seed, split)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            _write(folder / rows_file(code, split), text)
    for name, content in _tasks().items():
        _write(folder / TASKS / name, yaml.safe_dump(content, sort_keys=False))
    for code in TARGETS:
        for variant in VARIANTS:
            _write(folder / recipe_file(variant, code), recipe(variant, code))
        other = next(target for target in TARGETS if target != code)
        _write(folder / recipe_file("plus_tgt", code, control=True), recipe("plus_tgt", other))


def _tasks() -> Mapping[str, Any]:
    """lm-eval's task files: what all languages share, and for each its test and its validation task."""
    files: dict[str, Any] = {
        "demo_common_yaml": {
            "dataset_path": "json",
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": "{{text}}\nIs this negative, neutral or positive?",
            "doc_to_choice": list(world.LABELS),
            "doc_to_target": "label",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": 1.0},
        }
    }
    for code in (SOURCE, *TARGETS):
        data = {split: rows_file(code, split) for split in ("validation", "test")}
        of_split: dict[Split, dict[str, str]] = {"test": {}, "dev": {"test_split": "validation"}}
        for split, scored in of_split.items():
            name = task(code, split)
            content = {"include": "demo_common_yaml", "task": name, "dataset_kwargs": {"data_files": data}}
            files[f"{name}.yaml"] = content | scored
    return files


def recipe(variant: VariantKey, target: str) -> str:
    """A mergekit recipe; its λ of 1 is what the sweep varies."""
    added = VARIANTS[variant]
    languages = {"source": SOURCE, "target": target}
    models: list[dict[str, Any]] = [{"model": vector("task", TASK), "parameters": {"role": "task"}}]
    models += [
        {"model": vector("lang", languages[role]), "parameters": {"role": role, "weight": 1.0}}
        for role in added.signs
    ]
    content = {"merge_method": added.merge_method, "base_model": BASE, "models": models, "dtype": "float32"}
    return yaml.safe_dump(content, sort_keys=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
