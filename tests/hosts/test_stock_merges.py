"""Merges by mergekit's own methods, and their processes, are the same with this package and without it."""

import filecmp
import json
from pathlib import Path

import pytest
import yaml

from tests.helpers.families import build
from tests.helpers.hosts import console

METHODS = {
    "linear": {"parameters": {"normalize": False}},
    "slerp": {"parameters": {"t": 0.3}},
    "task_arithmetic": {},
    "ties": {"parameters": {"density": 0.4}},
    "dare_ties": {"parameters": {"density": 0.4}},
    "della": {"parameters": {"density": 0.4, "epsilon": 0.1}},
    "breadcrumbs": {"parameters": {"density": 0.6, "gamma": 0.05}},
    "sce": {"parameters": {"select_topk": 0.5}},
    "model_stock": {},
    "passthrough": {},
}
# Runs every recipe of a folder by mergekit's Python door, then says in what state it leaves the process.
SCRIPT = """
import atexit, gc, json, sys
def state():
    print(json.dumps([gc.isenabled(), gc.get_freeze_count(), gc.get_threshold(),
                      sys.excepthook is sys.__excepthook__, sorted(m for m in sys.modules if "taxlt" in m)]))
atexit.register(state)
import torch, yaml
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for path in sorted(Path(".").glob("*.yml")):
    text = path.read_text()
    out = str(Path(sys.argv[1], path.stem))
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), out, MergeOptions(random_seed=0), text)
state()
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder with an output folder for `with` and `without`, and what each process printed."""
    folder = build(tmp_path_factory.mktemp("stock"), "llama")
    for method, settings in METHODS.items():
        models = ["src"] if method == "passthrough" else ["src", "tgt"]
        document = {
            "merge_method": method,
            "base_model": str(folder / ("src" if method == "slerp" else "theta0")),
            "models": [{"model": str(folder / name), "parameters": {"weight": 0.5}} for name in models],
            "dtype": "float32",
        } | settings
        if method in ("linear", "passthrough"):
            del document["base_model"]
        if method in ("slerp", "model_stock", "sce", "passthrough"):
            for entry in document["models"]:
                del entry["parameters"]
        (folder / f"{method}.yml").write_text(yaml.safe_dump(document))
    printed = {}
    for name, off in (("with", "0"), ("without", "1")):
        outcome = console("python", "-c", SCRIPT, name, cwd=folder, TAXLT_NO_AUTOLOAD=off, PYTHONHASHSEED="0")
        assert outcome.code == 0, outcome.stderr
        assert "taxlt" not in outcome.stderr
        printed[name] = outcome.stdout
    return folder, printed


@pytest.mark.parametrize("method", METHODS)
def test_every_file_of_a_stock_merge_is_the_same(merged, method):
    folder, _ = merged
    ours, theirs = folder / "with" / method, folder / "without" / method
    names = sorted(path.name for path in theirs.iterdir())
    assert {"model.safetensors", "config.json", "README.md"} <= set(names)
    assert sorted(path.name for path in ours.iterdir()) == names
    # mergekit lists models in its card in the order of a set.
    card, stock_card = ((folder / "README.md").read_text().splitlines() for folder in (ours, theirs))
    assert sorted(card) == sorted(stock_card)
    names.remove("README.md")
    same, *_ = filecmp.cmpfiles(ours, theirs, names, shallow=False)
    assert sorted(same) == names


def test_a_process_that_merges_by_stock_methods_is_left_alone(merged):
    _, printed = merged
    ours, theirs = ([json.loads(line) for line in printed[name].splitlines()] for name in ("with", "without"))
    for (*state, modules), (*stock, stock_modules) in zip(ours, theirs, strict=True):
        assert state == stock
        assert "taxlt_mergekit.merge.methods.table" in modules
        assert "taxlt_mergekit.merge.run" not in modules
        assert set(stock_modules) <= {"taxlt_mergekit", "taxlt_mergekit.hosts", "taxlt_mergekit.hosts.hook"}
