"""`taxlt sweep`: the same scores as mergekit-yaml and lm_eval, nothing run twice, mistakes in one line."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.grid import grid_points, parse_values
from taxlt_mergekit.results import read_cells
from tests.hosts import BIN, console, forked
from tests.vectors import make_vectors

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
    process = subprocess.Popen(
        [str(BIN / "taxlt"), "sweep", *arguments, "--output", "killed"],
        cwd=project,
        env=os.environ | {"TAXLT_DATA": str(project / "data"), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = project / "killed" / "cells.jsonl"
    for _ in range(600):
        if file.exists() and file.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = file.read_bytes()
    assert kept.count(b"\n") >= 3
    assert sweep(project, *arguments, "--output", "killed").code == 0
    assert file.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    score = lambda cells: {c.key: (c.metrics, c.documents) for c in cells}  # noqa: E731
    assert score(read_cells(project / "killed")) == score(read_cells(project / "whole"))


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
    (project / "other").mkdir(exist_ok=True)
    (project / "other" / "cells.jsonl").write_text('{"format": 99}\n')
    arguments, words = MISTAKES[mistake]
    if "--output" not in arguments:
        arguments = [*arguments, "--output", "nothing"]
    outcome = sweep(project, *arguments)
    assert outcome.code != 0 and "Traceback" not in outcome.stderr, outcome.stderr
    assert all(word in outcome.last_line for word in words), outcome.stderr
    assert not (project / "nothing").exists()


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
