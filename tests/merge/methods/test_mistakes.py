"""What a user gets wrong in a recipe of mergekit's methods with roles: one line, and nothing is written."""

import json
import math
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.helpers.families import build
from tests.helpers.hosts import mergekit_yaml

WEIGHT = {"weight": 1.0}
# Method, what its models have, its shared parameters, what else the recipe says -> words of the one line.
MISTAKES = {
    "unknown parameter": ("xlt_ties", WEIGHT | {"densty": 0.5}, {}, {}, ["densty", "'density'", "xlt_ties"]),
    "a parameter of another method": ("xlt_sce", WEIGHT, {}, {}, ["weight", "xlt_sce", "role"]),
    "unknown shared parameter": ("xlt_linear", WEIGHT, {"normalise": True}, {}, ["normalise", "'normalize'"]),
    "shared on a model": ("xlt_ties", WEIGHT | {"lambda": 0.5}, {}, {}, ["task", "lambda", "whole merge"]),
    "weight missing": ("xlt_ties", {}, {}, {}, ["task", "'weight' is missing", "xlt_ties"]),
    "weight not finite": ("xlt_linear", {"weight": math.nan}, {}, {}, ["weight", "nan", "xlt_linear"]),
    "weight no number": ("xlt_nuslerp", {"weight": "much"}, {}, {}, ["weight", "much", "xlt_nuslerp"]),
    "weight true": ("xlt_linear", {"weight": True}, {}, {}, ["weight", "True", "finite number"]),
    "density above 1": ("xlt_ties", WEIGHT | {"density": 1.5}, {}, {}, ["density", "1.5", "xlt_ties"]),
    "density 0": ("xlt_dare_linear", WEIGHT | {"density": 0}, {}, {}, ["density", "above 0"]),
    "gamma 1": ("xlt_breadcrumbs", WEIGHT | {"gamma": 1.0}, {}, {}, ["gamma", "below 1"]),
    "density and epsilon": (
        "xlt_della",
        WEIGHT | {"density": 0.9},
        {},
        {},
        ["0.9 ± 0.15", "between 0 and 1"],
    ),
    "a switch that is a word": (
        "xlt_ties",
        WEIGHT,
        {"normalize": "perhaps"},
        {},
        ["normalize", "true or false"],
    ),
    "a count that is a fraction": ("xlt_karcher", {}, {"max_iter": 2.5}, {}, ["max_iter", "whole number"]),
    "no base": ("xlt_ties", WEIGHT, {}, {"base_model": None}, ["xlt_ties", "base_model"]),
    "too many models": ("xlt_nuslerp", WEIGHT, {}, {"more": ["src"]}, ["xlt_nuslerp", "exactly 2"]),
    "too few models": ("xlt_model_stock", {}, {}, {"models": ["task"]}, ["xlt_model_stock", "at least 3"]),
    "weights that sum to 0": ("xlt_linear", {"weight": 0.0}, {}, {}, ["xlt_linear", "NaN", "sum to 0"]),
    "no task": ("xlt_linear", WEIGHT, {}, {"models": ["src", "tgt"]}, ["role: task"]),
    "two task models under a base": (
        "xlt_ties",
        WEIGHT,
        {},
        {"models": ["task", "task2"]},
        ["second task model", "xlt_linear"],
    ),
    "labels in another order": (
        "xlt_linear",
        WEIGHT,
        {},
        {"models": ["task", "task3"]},
        ["task3", "labels", "order"],
    ),
    "head of another size": (
        "xlt_linear",
        WEIGHT,
        {},
        {"models": ["task", "task4"]},
        ["task4", "out_proj", "[2, 32]"],
    ),
    "a second task model without head": (
        "xlt_linear",
        WEIGHT,
        {},
        {"models": ["task", "lone"]},
        ["lone", "one kind"],
    ),
    "no Fisher information": ("xlt_fisher", {}, {}, {}, ["task", "fisher.safetensors", "--fisher"]),
    "a negative weight of Fisher": ("xlt_fisher", {"weight": -1.0}, {}, {}, ["weight", "at least 0"]),
    "one model": ("xlt_fisher", {}, {}, {"models": ["task"]}, ["xlt_fisher", "two models"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """XLM-R's checkpoints; `task3` and `task4` are task models whose heads do not fit `task`'s."""
    folder = build(tmp_path_factory.mktemp("models"), "xlm-roberta")
    copy(folder, "task", "task2")
    copy(folder, "task", "task3", id2label={"0": "neutral", "1": "entailment", "2": "contradiction"})
    four = copy(folder, "task", "task4")
    state = load_file(four / "model.safetensors")
    state["classifier.out_proj.weight"] = state["classifier.out_proj.weight"][:2].clone()
    save_file(state, four / "model.safetensors", metadata={"format": "pt"})
    copy(folder, "tgt", "lone")
    return folder


def copy(folder: Path, name: str, new: str, **config) -> Path:
    (folder / new).mkdir()
    (folder / new / "model.safetensors").write_bytes((folder / name / "model.safetensors").read_bytes())
    settings = json.loads((folder / name / "config.json").read_text())
    if "id2label" in config:
        config["label2id"] = {label: int(index) for index, label in config["id2label"].items()}
    (folder / new / "config.json").write_text(json.dumps(settings | config))
    return folder / new


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake, folder, tmp_path):
    method, settings, shared, more, words = MISTAKES[mistake]
    roles = {"src": "source", "tgt": "target"}
    models = more.get("models", ["task", "tgt"]) + more.get("more", [])
    document = {
        "merge_method": method,
        "base_model": str(folder / "theta0"),
        "models": [
            {"model": str(folder / name), "parameters": {"role": roles.get(name, "task")} | settings}
            for name in models
        ],
        "parameters": shared,
        "dtype": "float32",
    }
    if more.get("base_model", "") is None:
        del document["base_model"]
    (tmp_path / "r.yml").write_text(yaml.dump(document))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code == 1 and "Traceback" not in outcome.stderr, outcome.stderr
    assert all(word in outcome.last_line for word in words), outcome.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.yml"]
