"""`taxlt sweep`: the same scores as mergekit-yaml and lm_eval, and nothing run twice."""

import math
import signal
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from taxlt_mergekit.cells.store import read_cells
from tests.helpers.evaluation import LmEval, results
from tests.helpers.hosts import console, forked
from tests.helpers.sweeping import ROWS, copy_project, scores, started, sweep, wait_for_lines

INNER = "roberta.encoder.layer.0.output.dense.weight"


@pytest.fixture(scope="module")
def lm_eval():
    server = LmEval()
    yield server
    server.close()


def test_cells_agree_with_the_commands_and_nothing_runs_twice(project, lm_eval):
    recipes = ["recipes/mad_plus_src_plus_tgt.yml", "recipes/sun_plus_src_plus_tgt.yml"]
    grid = ["--weight", "0.2:1.0:0.4", "--density", "0.3,1", "--select", "top", "--select", "bottom"]
    done = sweep(project, *recipes, *grid, "--output", "results", "--test", "--batch-size", 8)
    assert done.code == 0, done.stderr
    cells = read_cells(project / "results")
    # 3 λ × (dense, top, bottom) × 2 languages, MODEL twice; on test MODEL and the chosen point.
    assert [sum(c.split == split for c in cells) for split in ("dev", "test")] == [3 * 3 * 2 + 2, 4]
    assert all(c.status == "ok" and len(c.documents.target) == ROWS for c in cells)
    # Scores that were all the same would agree with anything.
    assert len({c.documents.prediction for c in cells if c.language == "mad"}) > 8

    best = sorted((project / "results" / "best").iterdir())
    assert [p.name for p in best] == ["mad_plus_src_plus_tgt.yml", "sun_plus_src_plus_tgt.yml"]
    chosen = {c.task: c for c in cells if c.split == "test" and c.variant != "model"}
    sparse = next(c for c in cells if c.parameters.select == "bottom" and c.language == "mad")
    for recipe, cell in ((best[0], chosen["nusax_senti_mad"]), (best[1], chosen["nusax_senti_sun"])):
        assert_same_score(lm_eval, project, recipe, cell)
    document = yaml.safe_load((project / recipes[0]).read_text())
    for entry in document["models"][1:]:
        entry["parameters"] |= {"weight": sparse.parameters.target_weight, "density": 0.3}
    document["parameters"] = {"select": "bottom", "scope": "global"}
    by_hand = project / "by_hand.yml"
    by_hand.write_text(yaml.safe_dump(document))
    assert_same_score(lm_eval, project, by_hand, sparse)

    before = (project / "results" / "cells.jsonl").read_bytes()
    again = sweep(project, *recipes, *grid, "--output", "results", "--test", "--batch-size", 8)
    assert again.code == 0
    assert (project / "results" / "cells.jsonl").read_bytes() == before


def assert_same_score(lm_eval: LmEval, project: Path, recipe: Path, cell) -> None:
    out = project / "merged" / recipe.stem
    merged = forked("mergekit-yaml", recipe, out, cwd=project)
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


def change_weight(checkpoint: Path, change) -> None:
    """Apply a function to one number of a checkpoint."""
    weights = checkpoint / "model.safetensors"
    state = load_file(weights)
    state[INNER][0, 0] = change(state[INNER][0, 0])
    save_file(state, weights, metadata={"format": "pt"})


def test_a_sweep_needs_no_start_up_file(project):
    arguments = ["recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "without-hook"]
    environment = {"TAXLT_NO_AUTOLOAD": "1", "TAXLT_DATA": str(project / "data"), "OMP_NUM_THREADS": "1"}
    done = console("taxlt", "sweep", *arguments, cwd=project, **environment)
    assert done.code == 0, done.stderr
    assert {cell.status for cell in read_cells(project / "without-hook")} == {"ok"}


def test_a_changed_checkpoint_is_scored_again(project, tmp_path):
    copy = copy_project(project, tmp_path)
    arguments = ["recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "results"]
    assert sweep(copy, *arguments).code == 0
    assert len(read_cells(copy / "results")) == 2
    change_weight(copy / "vectors" / "base" / "lang" / "sun", lambda weight: weight + 0.1)
    assert sweep(copy, *arguments).code == 0
    cells = read_cells(copy / "results")
    assert [c.variant for c in cells] == ["model", "plus_tgt", "plus_tgt"]  # MODEL has not changed


def test_a_failing_cell_is_recorded_and_the_rest_go_on(project, tmp_path):
    copy = copy_project(project, tmp_path)
    change_weight(copy / "vectors" / "base" / "lang" / "mad", lambda weight: math.nan)
    outcome = sweep(
        copy, "recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "r"
    )
    assert outcome.code != 0 and "NaN" in outcome.last_line and "lang/mad" in outcome.last_line
    states = {(c.language, c.variant): c.status for c in read_cells(copy / "r")}
    assert states[("mad", "plus_tgt")] == "failed" and states[("sun", "plus_tgt")] == "ok"
