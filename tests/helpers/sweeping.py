"""A small project to sweep, `taxlt sweep` on it, and what its results hold."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from safetensors.torch import load_file, save_file

from taxlt_mergekit.cells.store import Cell, read_cells
from tests.helpers.evaluation import LmEval, random_rows, results, write_rows
from tests.helpers.hosts import Outcome, forked
from tests.helpers.vectors import make_vectors

LANGUAGES = ("mad", "sun")
ROWS = 60


def make_project(folder: Path) -> Path:
    """A folder with vectors for Madurese and Sundanese, recipes, and made-up rows in NusaX's files."""
    texts = []
    for code in LANGUAGES:
        for split in ("train", "validation", "test"):
            rows = random_rows("nusax", ROWS, seed=f"{code} {split}")
            write_rows(folder / "data", "nusax", code, split, rows)
            texts += [row["text"] for row in rows]
    # In SMSA's order, which is not NusaX's.
    make_vectors(folder, texts, ["positive", "neutral", "negative"], ["id", *LANGUAGES], "smsa")
    (folder / "recipes").mkdir()
    for code in LANGUAGES:
        write_recipe(folder, f"{code}_plus_tgt", {code: "target"})
        write_recipe(folder, f"{code}_plus_src_plus_tgt", {"id": "source", code: "target"})
    return folder


def write_recipe(project: Path, name: str, vectors: dict[str, str]) -> None:
    """A recipe of xlt_additive with these language vectors and their roles."""
    models = [{"model": "vectors/base/task/smsa", "parameters": {"role": "task"}}]
    models += [
        {"model": f"vectors/base/lang/{code}", "parameters": {"role": role, "weight": 0.9}}
        for code, role in vectors.items()
    ]
    document = {"merge_method": "xlt_additive", "base_model": "base", "models": models, "dtype": "float32"}
    (project / "recipes" / f"{name}.yml").write_text(yaml.safe_dump(document))


def copy_project(project: Path, target: Path) -> Path:
    """The project without what sweeps left in it."""
    for name in ("base", "data", "recipes", "vectors"):
        shutil.copytree(project / name, target / name)
    return target


def sweep(project: Path, *arguments: object) -> Outcome:
    """`taxlt sweep` in the project."""
    return forked("taxlt", "sweep", *arguments, cwd=project, TAXLT_DATA=str(project / "data"))


def _environment(project: Path) -> dict[str, str]:
    return os.environ | {"TAXLT_DATA": str(project / "data"), "HF_HUB_OFFLINE": "1"}


def started(project: Path, *arguments: object) -> subprocess.Popen:
    """A sweep on its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "taxlt_mergekit", "sweep", *map(str, arguments)],
        cwd=project,
        env=_environment(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


_KILLED = """
import os, signal, sys
from taxlt_mergekit.cli import main
from taxlt_mergekit.sweep import command

append, left = command.append_cell, [int(sys.argv.pop(1))]

def append_or_end(*cell):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    append(*cell)

command.append_cell = append_or_end
main(prog_name="taxlt")
"""


def killed_sweep(project: Path, cells: int, *arguments: object) -> None:
    """A sweep that ends by SIGKILL when it has written so many cells, and has one more to write."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(cells), "sweep", *map(str, arguments)],
        cwd=project,
        env=_environment(project),
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def wait_for_lines(file: Path, count: int) -> None:
    """Until a file has so many lines; three minutes at most."""
    for _ in range(3600):
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{file}: no {count} lines after three minutes")


def scores(folder: Path) -> dict:
    """By key, what must be equal; each key stands once in the file."""
    lines = (folder / "cells.jsonl").read_text().splitlines()
    cells = read_cells(folder)
    assert len(lines) == len(cells)
    return {cell.key: (cell.metrics, cell.documents) for cell in cells}


def change_weight(checkpoint: Path, change: Callable) -> float:
    """Apply a function to one number of a checkpoint; returns what it was."""
    weights = checkpoint / "model.safetensors"
    state = load_file(weights)
    tensor = state["roberta.encoder.layer.0.output.dense.weight"]
    before = tensor[0, 0].item()
    tensor[0, 0] = change(before)
    save_file(state, weights, metadata={"format": "pt"})
    return before


def assert_same_score(lm_eval: LmEval, project: Path, recipe: Path, cell: Cell, *flags: object) -> None:
    """mergekit-yaml and lm_eval on a recipe give a cell's scores to the last digit."""
    out = project / "merged" / recipe.stem
    merged = forked("mergekit-yaml", recipe, out, *flags, cwd=project)
    assert merged.code == 0, merged.stderr
    scored = lm_eval(
        *("--model", "hf-seq-cls", "--model_args", f"pretrained={out}", "--tasks", cell.task),
        *("--batch_size", 8, "--output_path", out / "scores"),
        TAXLT_DATA=project / "data",
    )
    assert scored.code == 0, scored.stderr
    found = results(out / "scores")["results"][cell.task]
    for metric in ("f1_macro", "acc", "f1_macro_stderr"):
        assert found[f"{metric},none"] == cell.metrics[metric], metric
