"""`taxlt sweep`: the same scores as mergekit-yaml and lm_eval, nothing run twice, mistakes in one line."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from taxlt_mergekit.cells.store import read_cells
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.sweep.points import grid_points, parse_values
from tests.helpers.hosts import console, forked
from tests.helpers.vectors import make_vectors

LABELS = ["positive", "neutral", "negative"]  # in SMSA's order, which is not NusaX's
FOLDERS = {"mad": "madurese", "sun": "sundanese"}


@pytest.fixture(scope="module")
def project(tmp_path_factory, real_data) -> Path:
    """A folder with vectors for Madurese and Sundanese, recipes, and 60 rows of NusaX a split."""
    folder = tmp_path_factory.mktemp("project")
    texts = []
    for name in FOLDERS.values():
        (folder / "data" / "nusax" / name).mkdir(parents=True)
        for split in ("train", "valid", "test"):
            lines = list(csv.reader((real_data / "nusax" / name / f"{split}.csv").open(encoding="utf-8")))
            with (folder / "data" / "nusax" / name / f"{split}.csv").open("w", encoding="utf-8") as file:
                csv.writer(file).writerows(lines[:61])
            texts += [row[1] for row in lines[1:61]]
    make_vectors(folder, texts, LABELS, ["id", "mad", "sun"], "smsa")
    (folder / "recipes").mkdir()
    for code in FOLDERS:
        for variant, roles in (("plus_tgt", ["target"]), ("plus_src_plus_tgt", ["source", "target"])):
            models = [{"model": "vectors/base/task/smsa", "parameters": {"role": "task"}}]
            for role in roles:
                name = "id" if role == "source" else code
                models.append(
                    {"model": f"vectors/base/lang/{name}", "parameters": {"role": role, "weight": 0.9}}
                )
            document = {
                "merge_method": "xlt_additive",
                "base_model": "base",
                "models": models,
                "dtype": "float32",
            }
            (folder / "recipes" / f"{code}_{variant}.yml").write_text(yaml.safe_dump(document))
    return folder


def sweep(project: Path, *arguments: object):
    return forked("taxlt", "sweep", *arguments, cwd=project, TAXLT_DATA=str(project / "data"))


def test_cells_agree_with_the_commands_and_nothing_runs_twice(project):
    recipes = ["recipes/mad_plus_src_plus_tgt.yml", "recipes/sun_plus_src_plus_tgt.yml"]
    grid = ["--weight", "0.2:1.0:0.4", "--density", "0.3,1", "--select", "top", "--select", "bottom"]
    done = sweep(project, *recipes, *grid, "--output", "results", "--test", "--batch-size", 8)
    assert done.code == 0, done.stderr
    cells = read_cells(project / "results")
    # 3 λ × (dense, top, bottom) × 2 languages, MODEL twice; on test MODEL and the chosen point.
    assert [sum(c.split == split for c in cells) for split in ("dev", "test")] == [3 * 3 * 2 + 2, 4]
    assert all(c.status == "ok" and len(c.documents.target) == 60 for c in cells)
    # Scores that were all the same would agree with anything.
    assert len({c.documents.prediction for c in cells if c.language == "mad"}) > 8

    best = sorted((project / "results" / "best").iterdir())
    assert [p.name for p in best] == ["mad_plus_src_plus_tgt.yml", "sun_plus_src_plus_tgt.yml"]
    chosen = {c.task: c for c in cells if c.split == "test" and c.variant != "model"}
    sparse = next(c for c in cells if c.parameters.select == "bottom" and c.language == "mad")
    for recipe, cell in ((best[0], chosen["nusax_senti_mad"]), (best[1], chosen["nusax_senti_sun"])):
        assert_same_score(project, recipe, cell)
    document = yaml.safe_load((project / recipes[0]).read_text())
    for entry in document["models"][1:]:
        entry["parameters"] |= {"weight": sparse.parameters.target_weight, "density": 0.3}
    document["parameters"] = {"select": "bottom", "scope": "global"}
    by_hand = project / "by_hand.yml"
    by_hand.write_text(yaml.safe_dump(document))
    assert_same_score(project, by_hand, sparse)

    before = (project / "results" / "cells.jsonl").read_bytes()
    again = sweep(project, *recipes, *grid, "--output", "results", "--test", "--batch-size", 8)
    assert again.code == 0
    assert (project / "results" / "cells.jsonl").read_bytes() == before


def assert_same_score(project: Path, recipe: Path, cell) -> None:
    out = project / "merged" / recipe.stem
    merged = forked("mergekit-yaml", recipe, out, cwd=project)
    assert merged.code == 0, merged.stderr
    scored = console(
        *("lm_eval", "--model", "hf-seq-cls", "--model_args", f"pretrained={out}", "--tasks", cell.task),
        *("--batch_size", 8, "--output_path", out / "scores"),
        cwd=project,
        TAXLT_DATA=str(project / "data"),
    )
    assert scored.code == 0, scored.stderr
    results = json.loads(next((out / "scores").rglob("results_*.json")).read_text())["results"][cell.task]
    for metric in ("f1_macro", "acc", "f1_macro_stderr"):
        assert results[f"{metric},none"] == cell.metrics[metric], metric


def test_a_killed_sweep_goes_on_where_it_was(project):
    arguments = ["recipes/mad_plus_tgt.yml", "--weight", "0.1:1.0:0.1", "--batch-size", "8"]
    whole = sweep(project, *arguments, "--output", "whole")
    assert whole.code == 0, whole.stderr
    process = started(project, *arguments, "--output", "killed")
    file = project / "killed" / "cells.jsonl"
    wait_for_lines(file, 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = file.read_bytes()
    assert 3 <= kept.count(b"\n") < 11
    assert sweep(project, *arguments, "--output", "killed").code == 0
    assert file.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert scores(project / "killed") == scores(project / "whole")


def started(project: Path, *arguments: object) -> subprocess.Popen:
    """A sweep on its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "taxlt_mergekit", "sweep", *map(str, arguments)],
        cwd=project,
        env=os.environ | {"TAXLT_DATA": str(project / "data"), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_lines(file: Path, count: int) -> None:
    for _ in range(1200):
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{file}: no {count} lines after a minute")


def scores(folder: Path) -> dict:
    """By key, what must be equal; each key stands once in the file."""
    lines = (folder / "cells.jsonl").read_text().splitlines()
    cells = read_cells(folder)
    assert len(lines) == len(cells)
    return {cell.key: (cell.metrics, cell.documents) for cell in cells}


def test_ray_gives_the_same_also_when_a_worker_is_killed(project):
    pytest.importorskip("ray", reason="needs Ray: pip install 'taxlt-mergekit[ray]'")
    recipes = ["recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml", "recipes/mad_plus_src_plus_tgt.yml"]
    arguments = [*recipes, "--weight", "0.05:1.0:0.05", "--batch-size", 8]
    assert sweep(project, *arguments, "--output", "serial").code == 0
    process = started(project, *arguments, "--output", "ray", "--ray")
    wait_for_lines(project / "ray" / "cells.jsonl", 2)
    workers = [pid for pid, command in descendants(process.pid) if "taxlt sweep" in command]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert scores(project / "ray") == scores(project / "serial")


def descendants(ancestor: int) -> list[tuple[int, str]]:
    """Processes that a process started, directly or not, with their command lines."""
    lines = subprocess.check_output(["ps", "-eo", "pid=,ppid=,args="], text=True).splitlines()
    rows = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in lines)]
    found, result = {ancestor}, []
    for pid, parent, args in sorted(rows):
        if parent in found:
            found.add(pid)
            result.append((pid, args))
    return result


def test_a_changed_checkpoint_is_scored_again(project, tmp_path):
    shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("merged", "results", "whole"))
    copy = tmp_path / "copy"
    arguments = ["recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "results"]
    assert sweep(copy, *arguments).code == 0
    assert len(read_cells(copy / "results")) == 2
    weights = copy / "vectors" / "base" / "lang" / "sun" / "model.safetensors"
    state = load_file(weights)
    state["roberta.encoder.layer.0.output.dense.weight"][0, 0] += 0.1
    save_file(state, weights, metadata={"format": "pt"})
    assert sweep(copy, *arguments).code == 0
    cells = read_cells(copy / "results")
    assert [c.variant for c in cells] == ["model", "plus_tgt", "plus_tgt"]  # MODEL has not changed


def test_a_failing_cell_is_recorded_and_the_rest_go_on(project, tmp_path):
    shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("merged", "results", "whole"))
    copy = tmp_path / "copy"
    weights = copy / "vectors" / "base" / "lang" / "mad" / "model.safetensors"
    state = load_file(weights)
    state["roberta.encoder.layer.0.output.dense.weight"][0, 0] = math.nan
    save_file(state, weights, metadata={"format": "pt"})
    outcome = sweep(
        copy, "recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "r"
    )
    assert outcome.code != 0 and "NaN" in outcome.last_line and "lang/mad" in outcome.last_line
    states = {(c.language, c.variant): c.status for c in read_cells(copy / "r")}
    assert states[("mad", "plus_tgt")] == "failed" and states[("sun", "plus_tgt")] == "ok"


MISTAKES = {
    "not a recipe of ours": (["recipes/linear.yml"], ["linear.yml", "xlt_additive"]),
    "no such recipe": (["recipes/none.yml"], ["none.yml", "No such file"]),
    "no language vector": (["recipes/only_task.yml"], ["only_task.yml", "no language vector"]),
    "unknown task": (["recipes/mad_plus_tgt.yml", "--tasks", "nusax_sentiment_mad"], ["nusax_sentiment_mad"]),
    "name without a task": (["recipes/my.yml"], ["my.yml", "--tasks"]),
    "empty grid": (["recipes/mad_plus_tgt.yml", "--weight", "1:0:0.1"], ["--weight", "no value"]),
    "not a grid": (["recipes/mad_plus_tgt.yml", "--weight", "a:b"], ["--weight", "a:b"]),
    "density out of range": (["recipes/mad_plus_tgt.yml", "--density", "0.2,2"], ["--density", "2"]),
    "selection without density": (
        ["recipes/mad_plus_tgt.yml", "--select", "bottom"],
        ["--select", "--density"],
    ),
    "two recipes of one name": (
        ["recipes/mad_plus_tgt.yml", "recipes/again/mad_plus_tgt.yml"],
        ["recipes/again/mad_plus_tgt.yml", "best/"],
    ),
    "no checkpoint": (["recipes/mad_plus_tgt.yml", "recipes/bug_plus_tgt.yml"], ["bug_plus_tgt.yml", "bug"]),
    "labels that are not the head's": (
        ["recipes/mad_plus_tgt.yml", "--tasks", "nli", "--include-path", "tasks"],
        ["nli: ", "which label each choice stands for"],
    ),
    "both kinds of weight": (
        ["recipes/mad_plus_tgt.yml", "--weight", "0.5", "--target-weight", "0.5"],
        ["--weight", "--source-weight"],
    ),
    "source weight without a source": (["recipes/mad_plus_tgt.yml", "--source-weight", "0.5"], ["source"]),
    "results of another version": (
        ["recipes/mad_plus_tgt.yml", "--output", "other"],
        ["cells.jsonl", "format"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, project):
    (project / "recipes" / "linear.yml").write_text("merge_method: linear\nmodels: [{model: a}]\n")
    document = yaml.safe_load((project / "recipes" / "mad_plus_tgt.yml").read_text())
    (project / "recipes" / "my.yml").write_text(yaml.safe_dump(document))
    document["models"] = document["models"][:1]
    (project / "recipes" / "only_task.yml").write_text(yaml.safe_dump(document))
    (project / "recipes" / "again").mkdir(exist_ok=True)
    shutil.copy(project / "recipes" / "mad_plus_tgt.yml", project / "recipes" / "again")
    bug = (project / "recipes" / "mad_plus_tgt.yml").read_text().replace("lang/mad", "lang/bug")
    (project / "recipes" / "bug_plus_tgt.yml").write_text(bug)
    make_task(project / "tasks")
    (project / "other").mkdir(exist_ok=True)
    (project / "other" / "cells.jsonl").write_text('{"format": 99}\n')
    arguments, words = MISTAKES[mistake]
    if "--output" not in arguments:
        arguments = [*arguments, "--output", "nothing"]
    outcome = sweep(project, *arguments)
    assert outcome.code != 0 and "Traceback" not in outcome.stderr, outcome.stderr
    assert all(word in outcome.last_line for word in words), outcome.stderr
    assert not (project / "nothing").exists()


def make_task(folder: Path) -> None:
    """A task of the user's own with two labels, while the heads have three."""
    folder.mkdir(exist_ok=True)
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


def test_values_and_points():
    assert parse_values("0.1:1.0:0.1", "--weight") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert parse_values("0.2,0.5", "--density") == [0.2, 0.5]
    with pytest.raises(UserError):
        parse_values("0.1:nan:0.1", "--weight")
    points = grid_points(
        ["source", "target"], weight=[0.1, 0.2], density=[0.2, 1.0], select=["top", "bottom"]
    )
    assert len(points) == 2 * (2 + 1)  # at density 1 there is nothing to select
    assert all(p.source_weight == p.target_weight for p in points)
    assert grid_points(["target"], weight=[0.1])[0].source_weight is None
    apart = grid_points(["source", "target"], source_weight=[0.1, 0.2], target_weight=[0.3])
    assert [(p.source_weight, p.target_weight) for p in apart] == [(0.1, 0.3), (0.2, 0.3)]
