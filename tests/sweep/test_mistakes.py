"""What a user gets wrong in `taxlt sweep`: one line that names it, before anything is run."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.sweeping import copy_project, sweep, write_recipe

MISTAKES = {
    "not a recipe of ours": (["recipes/linear.yml"], ["linear.yml", "xlt_additive"]),
    "not a recipe": (["recipes/list.yml"], ["list.yml", "not a mergekit recipe"]),
    "no such recipe": (["recipes/none.yml"], ["none.yml", "no such recipe"]),
    "no such recipe of the paper": (
        ["merge_configs/xlm-roberta-large/quy_plus_tgt.yml"],
        ["no such recipe; taxlt recipes writes it"],
    ),
    "no language vector": (["recipes/only_task.yml"], ["only_task.yml", "no language vector"]),
    "unknown task": (["recipes/mad_plus_tgt.yml", "--tasks", "nusax_sentiment_mad"], ["nusax_sentiment_mad"]),
    "name without a task": (["recipes/my.yml"], ["my.yml", "--tasks"]),
    "name without a language": (
        ["recipes/my.yml", "--tasks", "nli_{language}"],
        ["my.yml", "no language to put for {language}"],
    ),
    "no task to test on": (
        ["recipes/mad_plus_tgt.yml", "--tasks", "nusax_senti_dev_mad", "--test"],
        ["mad_plus_tgt.yml", "--test-tasks"],
    ),
    "empty grid": (["recipes/mad_plus_tgt.yml", "--weight", "1:0:0.1"], ["--weight", "no value"]),
    "not a grid": (["recipes/mad_plus_tgt.yml", "--weight", "a:b"], ["--weight", "a:b"]),
    "density out of range": (["recipes/mad_plus_tgt.yml", "--density", "0.2,2"], ["--density", "2"]),
    "selection without density": (
        ["recipes/mad_plus_tgt.yml", "--select", "bottom"],
        ["--select", "--density"],
    ),
    "not a batch size": (["recipes/mad_plus_tgt.yml", "--batch-size", "0"], ["--batch-size 0", "above 0"]),
    "two recipes of one name": (
        ["recipes/mad_plus_tgt.yml", "recipes/again/mad_plus_tgt.yml"],
        ["recipes/again/mad_plus_tgt.yml", "best/"],
    ),
    "no checkpoint": (
        ["recipes/mad_plus_tgt.yml", "recipes/bug_plus_tgt.yml"],
        ["bug_plus_tgt.yml", "taxlt train language"],
    ),
    "labels that are not the head's": (
        ["recipes/mad_plus_tgt.yml", "--tasks", "nli", "--include-path", "tasks"],
        ["nli: ", "which label each choice stands for"],
    ),
    "both kinds of weight": (
        ["recipes/mad_plus_tgt.yml", "--weight", "0.5", "--target-weight", "0.5"],
        ["--weight", "--source-weight"],
    ),
    "source weight without a source": (["recipes/mad_plus_tgt.yml", "--source-weight", "0.5"], ["source"]),
    "trials of nothing": (["recipes/mad_plus_tgt.yml", "--trials", "9"], ["--trials", "--per-group"]),
    "groups and densities": (
        ["recipes/mad_plus_tgt.yml", "--per-group", "--density", "0.2"],
        ["--per-group", "leave out --density"],
    ),
    "groups of one λ": (
        ["recipes/mad_plus_tgt.yml", "--per-group", "--weight", "0.9"],
        ["--per-group", "--weight", "at least two"],
    ),
    "groups by a criterion of grids": (
        ["recipes/mad_plus_tgt.yml", "--per-group", "--select-by", "others"],
        ["--per-group", "labels or balance, not --select-by others"],
    ),
    "groups on Ray": (["recipes/mad_plus_tgt.yml", "--per-group", "--ray"], ["--per-group", "--ray"]),
    "results of another version": (
        ["recipes/mad_plus_tgt.yml", "--output", "other"],
        ["cells.jsonl", "format"],
    ),
}


@pytest.fixture(scope="module")
def mistaken(project, tmp_path_factory) -> Path:
    """The project with recipes, a task and results that are not right."""
    folder = copy_project(project, tmp_path_factory.mktemp("mistaken"))
    recipes = folder / "recipes"
    (recipes / "linear.yml").write_text("merge_method: linear\nmodels: [{model: a}]\n")
    (recipes / "list.yml").write_text("[1, 2]\n")
    write_recipe(folder, "my", {"mad": "target"})
    write_recipe(folder, "only_task", {})
    write_recipe(folder, "bug_plus_tgt", {"bug": "target"})
    (recipes / "again").mkdir()
    shutil.copy(recipes / "mad_plus_tgt.yml", recipes / "again")
    make_task(folder / "tasks")
    (folder / "other").mkdir()
    (folder / "other" / "cells.jsonl").write_text('{"format": 99}\n')
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_and_nothing_is_written(mistake, mistaken):
    arguments, words = MISTAKES[mistake]
    if "--output" not in arguments:
        arguments = [*arguments, "--output", "nothing"]
    outcome = sweep(mistaken, *arguments)
    assert outcome.code == 1 and "Traceback" not in outcome.stderr, outcome.stderr
    assert all(word in outcome.last_line for word in words), outcome.stderr
    assert not (mistaken / "nothing").exists()


def make_task(folder: Path) -> None:
    """A task of the user's own with two labels, while the heads have three."""
    folder.mkdir()
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "nli",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(folder / "rows.jsonl")}},
        "validation_split": "validation",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "label",
        "doc_to_choice": ["negative", "positive"],
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "nli.yaml").write_text(yaml.safe_dump(task))
