"""`taxlt sweep --per-group`: trials are scored as mergekit-yaml merges them, and a search goes on."""

import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from taxlt_mergekit.cells.choices import Rated, read_choices
from taxlt_mergekit.cells.selection import best_parameters, canonical
from taxlt_mergekit.cells.store import Groups, Parameters, read_cells
from taxlt_mergekit.cells.unlabelled import read_unlabelled
from taxlt_mergekit.sweep.search.sampler import Sampler
from tests.helpers.hosts import forked
from tests.helpers.sweeping import assert_same_score, scores, sweep

RECIPES = ("recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml")
SEARCH = ("--weight", "0.2:1.4:0.2", "--per-group", "--batch-size", 8)


def trials(folder):
    return [cell for cell in read_cells(folder) if cell.variant == "plus_tgt_per_group"]


@pytest.fixture(scope="module")
def searched(project):
    arguments = (*RECIPES, *SEARCH, "--trials", 4, "--test", "--output")
    done = sweep(project, *arguments, "groups")
    assert done.code == 0, done.stderr
    return project, arguments, done


def test_a_trial_is_what_mergekit_makes_of_its_recipe(searched, command):
    project, _, done = searched
    out = project / "groups"
    assert sorted(path.name for path in (out / "best").iterdir()) == [
        *("mad_plus_tgt.per_group.yml", "mad_plus_tgt.yml"),
        *("sun_plus_tgt.per_group.yml", "sun_plus_tgt.yml"),
    ]
    assert "+TGT per group" in done.stdout and "λ embeddings 0." in done.stdout
    cell = next(
        c
        for c in trials(out)
        if c.language == "mad" and c.split == "dev" and len(set(c.parameters.groups.by_name.values())) == 3
    )
    best = out / "best" / "mad_plus_tgt.per_group.yml"
    document = yaml.safe_load(best.read_text())
    groups = cell.parameters.groups.by_name
    assert groups.keys() == {"embeddings", "lower", "upper"}  # of two layers
    weight = [
        {"filter": "roberta.encoder.layer.0.", "value": groups["lower"]},
        {"filter": "roberta.encoder.layer.1.", "value": groups["upper"]},
        {"value": groups["embeddings"]},
    ]
    written = document["models"][1]["parameters"]["weight"]
    assert [sorted(entry) for entry in written] == [sorted(entry) for entry in weight]
    document["models"][1]["parameters"]["weight"] = weight
    (project / "one_trial.yml").write_text(yaml.safe_dump(document))
    assert_same_score(command, project, project / "one_trial.yml", cell)
    merged = load_file(project / "merged" / "one_trial" / "model.safetensors")
    start, task, target = (
        load_file(project / name / "model.safetensors")
        for name in ("base", "vectors/base/task/smsa", "vectors/base/lang/mad")
    )
    for name, group in (
        ("roberta.embeddings.word_embeddings.weight", "embeddings"),
        ("roberta.encoder.layer.0.output.dense.weight", "lower"),
        ("roberta.encoder.layer.1.output.dense.weight", "upper"),
    ):
        wanted = task[name] + groups[group] * (target[name] - start[name])
        torch.testing.assert_close(merged[name], wanted, rtol=1e-6, atol=1e-7)


def test_the_search_starts_with_the_grids_choice_and_ends_no_lower(searched):
    project, _, _ = searched
    out = project / "groups"
    first, *_ = trials(out)
    grid = {c.criterion: c for c in read_choices(out) if c.variant == "plus_tgt"}["labels"]
    assert set(first.parameters.groups.by_name.values()) == {grid.parameters.target_weight}
    of_mad = [cell for cell in read_cells(out) if cell.recipe == RECIPES[0]]
    single = next(cell for cell in of_mad if canonical(cell.parameters) == grid.parameters)
    alike = next(c for c in trials(out) if c.parameters == first.parameters and c.language == "mad")
    assert (alike.metrics, alike.documents) == (single.metrics, single.documents)
    found = [c for c in read_choices(out) if c.variant == "plus_tgt_per_group"]
    assert [c.criterion for c in found] == ["labels"] * 2 and found[0].parameters == found[1].parameters
    values = [rated.value for rated in found[0].curve]
    assert len(values) <= 4 and max(values) >= max(rated.value for rated in grid.curve)
    assert Rated(parameters=found[0].parameters, value=max(values)) in found[0].curve


def test_a_killed_search_goes_on_and_more_trials_go_on_from_fewer(searched):
    project, arguments, _ = searched
    whole, file = scores(project / "groups"), project / "killed" / "cells.jsonl"
    shutil.copytree(project / "groups", file.parent)
    lines = file.read_bytes().splitlines(keepends=True)
    # What a kill leaves: grid and MODEL in two languages, a trial and a half, and a part of a line.
    kept = b"".join(lines[: 2 * (7 + 1) + 3])
    file.write_bytes(kept + lines[-1][:99])
    more = [5 if word == 4 else word for word in arguments]
    assert sweep(project, *more, "killed").code == 0
    assert file.read_bytes().startswith(kept)
    assert not list(file.parent.glob("unfinished-*.json"))
    found = scores(file.parent)
    dev = {cell.key for cell in read_cells(project / "groups") if cell.split == "dev"}
    assert {key: found[key] for key in dev} == {key: whole[key] for key in dev}
    added = [cell for cell in read_cells(file.parent) if cell.key not in whole]
    assert {cell.variant for cell in added} == {"plus_tgt_per_group"}
    assert sum(cell.split == "dev" for cell in added) == 2  # the fifth trial in two languages


def test_without_labels_it_goes_by_the_balance_of_predictions(project):
    (project / "sun.txt").write_text("".join(f"satu {i} dua tiga\n" for i in range(9)))
    arguments = (RECIPES[1], *SEARCH, "--trials", 3, "--text", "{language}.txt", "--select-by", "balance")
    # Without data: no task can be loaded.
    nowhere = {"TAXLT_DATA": str(project / "nowhere")}
    done = forked("taxlt", "sweep", *arguments, "--output", "unlabelled", cwd=project, **nowhere)
    assert done.code == 0, done.stderr
    out = project / "unlabelled"
    assert read_cells(out) == []
    lines = [line for line in read_unlabelled(out) if "per_group" in line.variant]
    tried = [canonical(line.parameters) for line in lines]
    (choice,) = (c for c in read_choices(out) if c.variant == "plus_tgt_per_group")
    assert choice.criterion == "balance" and [rated.parameters for rated in choice.curve] == tried
    assert choice.parameters == max(choice.curve, key=lambda rated: rated.value).parameters


def test_a_search_asks_the_same_again_and_leaves_out_what_failed():
    def asked(count, failed=None):
        sampler = Sampler(["lower", "upper"], [0.9, 0.3, 0.6], 0.6)
        points = []
        for number in range(count):
            points.append(sampler.ask())
            sampler.tell(None if number == failed else -abs(sum(points[-1].values()) - 1.5))
        return points

    points = asked(30)
    assert points[0] == {"lower": 0.6, "upper": 0.6}
    assert asked(14) == points[:14]
    assert asked(14, failed=3)[:4] == points[:4]
    assert {value for point in points for value in point.values()} <= {0.3, 0.6, 0.9}


def test_of_equal_points_the_most_alike_is_chosen():
    alike = Parameters(groups=Groups(embeddings=0.9, upper=0.9))
    apart = Parameters(groups=Groups(embeddings=0.1, upper=0.2))
    assert best_parameters({apart: {"": 0.5}, alike: {"": 0.5}}) == alike
    assert best_parameters({apart: {"": 0.6}, alike: {"": 0.5}}) == apart


def test_without_optuna_one_line_names_the_extra(project):
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from taxlt_mergekit.sweep.search.sampler import load_optuna\n"
        "load_optuna()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--per-group needs optuna: pip install 'taxlt-mergekit[search]'" in done.stderr
