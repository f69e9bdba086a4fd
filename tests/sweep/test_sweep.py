"""`taxlt sweep`: the same scores as mergekit-yaml and lm_eval, and nothing run twice."""

import yaml
from safetensors.torch import load_file, save_file

from taxlt_mergekit.cells.store import read_cells
from tests.helpers.hosts import console
from tests.helpers.sweeping import (
    ROWS,
    assert_same_score,
    change_weight,
    copy_project,
    killed_sweep,
    scores,
    sweep,
)


def test_cells_agree_with_the_commands_and_nothing_runs_twice(project, command):
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
        assert_same_score(command, project, recipe, cell)
    document = yaml.safe_load((project / recipes[0]).read_text())
    for entry in document["models"][1:]:
        entry["parameters"] |= {"weight": sparse.parameters.target_weight, "density": 0.3}
    document["parameters"] = {"select": "bottom", "scope": "global"}
    by_hand = project / "by_hand.yml"
    by_hand.write_text(yaml.safe_dump(document))
    assert_same_score(command, project, by_hand, sparse)

    before = (project / "results" / "cells.jsonl").read_bytes()
    again = sweep(project, *recipes, *grid, "--output", "results", "--test", "--batch-size", 8)
    assert again.code == 0
    assert (project / "results" / "cells.jsonl").read_bytes() == before


def test_a_killed_sweep_goes_on_where_it_was(project):
    arguments = ["recipes/mad_plus_tgt.yml", "--weight", "0.1:1.0:0.1", "--batch-size", "8", "--output"]
    assert sweep(project, *arguments, "whole").code == 0
    killed_sweep(project, 3, *arguments, "ended")
    file = project / "ended" / "cells.jsonl"
    assert list(file.parent.glob("unfinished-*.json"))
    kept = file.read_bytes()
    assert kept.count(b"\n") == 3
    assert sweep(project, *arguments, "ended").code == 0
    assert file.read_bytes().startswith(kept)
    assert scores(project / "ended") == scores(project / "whole")
    assert not list(file.parent.glob("unfinished-*.json"))


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
    settings = copy / "vectors" / "base" / "task" / "smsa" / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"<unk>"', '"<s>"'))
    assert sweep(copy, *arguments).code == 0
    assert len(read_cells(copy / "results")) == 5


def test_tensors_under_the_names_of_older_versions(project, tmp_path):
    """transformers loads them under today's names, and there the merge must find them."""
    copy = copy_project(project, tmp_path)
    arguments = ["recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "results"]
    assert sweep(copy, *arguments).code == 0
    weights = copy / "vectors" / "base" / "task" / "smsa" / "model.safetensors"
    older = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = load_file(weights)
    for new, old in older.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    save_file(state, weights, metadata={"format": "pt"})
    done = sweep(copy, *arguments)
    assert done.code == 0, done.stderr
    cells = read_cells(copy / "results")
    assert len(cells) == 4
    assert [cell.documents for cell in cells[:2]] == [cell.documents for cell in cells[2:]]
