"""A sweep of another method: what it scores in memory is what mergekit-yaml writes, at random too."""

import pytest
import yaml

from taxlt_mergekit.cells.store import Parameters, read_cells
from tests.helpers.sweeping import assert_same_score, copy_project, sweep

TASK = {"model": "vectors/base/task/smsa", "parameters": {"role": "task", "weight": 1.0}}
LANGUAGE = {"model": "vectors/base/lang/mad", "parameters": {"role": "target", "weight": 0.9}}


def write(project, folder, method, models=(TASK, LANGUAGE), **more):
    """A recipe of +TGT in Madurese by another method; returns its path in the project."""
    document = {"merge_method": method, "base_model": "base", "models": list(models), "dtype": "float32"}
    path = project / folder / "mad_plus_tgt.yml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document | more))
    return path.relative_to(project)


@pytest.mark.parametrize("method", ["xlt_ties", "xlt_dare_ties"])
def test_cells_agree_with_the_commands(method, project, command, tmp_path):
    project = copy_project(project, tmp_path)
    path = write(project, "other", method)
    grid = ["--weight", "0.4,0.9", "--density", "0.3,1"]
    done = sweep(project, path, *grid, "--output", "results", "--test", "--batch-size", 8)
    assert done.code == 0, done.stderr
    cells = [cell for cell in read_cells(project / "results") if cell.variant != "model"]
    assert {cell.variant for cell in cells} == {f"{method}_plus_tgt"}
    assert len(cells) == 4 + 1 and len({cell.documents.prediction for cell in cells}) >= 4
    assert all(cell.parameters.select is None and cell.parameters.scope is None for cell in cells)
    (chosen,) = (cell for cell in cells if cell.split == "test")
    assert_same_score(command, project, project / "results" / "best" / "mad_plus_tgt.yml", chosen)
    sparse = next(c for c in cells if c.parameters == Parameters(target_weight=0.9, density=0.3))
    document = yaml.safe_load((project / path).read_text())
    document["models"][1]["parameters"]["density"] = 0.3
    (project / "by_hand.yml").write_text(yaml.safe_dump(document))
    assert_same_score(command, project, project / "by_hand.yml", sparse)


def test_methods_without_a_weight_and_task_models_alone_have_one_point(project, tmp_path):
    project = copy_project(project, tmp_path)
    bare = [entry | {"parameters": {"role": entry["parameters"]["role"]}} for entry in (TASK, LANGUAGE)]
    write(project, "sce", "xlt_sce", bare)
    second = project / "vectors" / "base" / "task" / "second"
    second.mkdir()
    for file in (project / TASK["model"]).iterdir():
        (second / file.name).write_bytes(file.read_bytes())
    write(project, "soup", "xlt_linear", [TASK, TASK | {"model": "vectors/base/task/second"}])
    for folder, variant in (("sce", "xlt_sce_plus_tgt"), ("soup", "xlt_linear_model")):
        done = sweep(project, f"{folder}/mad_plus_tgt.yml", "--output", folder + "-out", "--batch-size", 8)
        assert done.code == 0, done.stderr
        model, cell = read_cells(project / f"{folder}-out")
        assert (model.variant, cell.variant) == ("model", variant)
    assert cell.documents == model.documents  # a soup of two that are the same
