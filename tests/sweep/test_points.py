"""The values of a grid's options, its points, and a recipe at a point."""

from pathlib import Path

import pytest
import yaml

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.sweep.points import at_point, grid_points, own_parameters, parse_values
from taxlt_mergekit.sweep.recipe import Recipe, read_recipe


def test_values():
    assert parse_values("0.1:1.0:0.1", "--weight") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert parse_values("0.2,0.5", "--density") == [0.2, 0.5]
    with pytest.raises(UserError, match=r"--weight 0\.1:nan:0\.1: not numbers"):
        parse_values("0.1:nan:0.1", "--weight")


def test_points():
    points = grid_points(
        ["source", "target"], weight=[0.1, 0.2], density=[0.2, 1.0], select=["top", "bottom"]
    )
    assert len(points) == 2 * (2 + 1)  # at density 1 there is nothing to select
    assert all(p.source_weight == p.target_weight for p in points)
    assert grid_points(["target"], weight=[0.1])[0].source_weight is None
    apart = grid_points(["source", "target"], source_weight=[0.1, 0.2], target_weight=[0.3])
    assert [(p.source_weight, p.target_weight) for p in apart] == [(0.1, 0.3), (0.2, 0.3)]


def recipe_with(folder: Path, source: dict, target: dict, **shared) -> Recipe:
    models = [
        {"model": "task", "parameters": {"role": "task"}},
        {"model": "s", "parameters": {"role": "source", **source}},
        {"model": "t", "parameters": {"role": "target", **target}},
    ]
    document = {"merge_method": "xlt_analogy", "base_model": "b", "models": models, "dtype": "float32"}
    path = folder / "de_minus_src_plus_tgt.yml"
    path.write_text(yaml.safe_dump(document | ({"parameters": shared} if shared else {})))
    return read_recipe(path)


def test_what_a_point_leaves_open_is_the_recipes(tmp_path):
    recipe = recipe_with(tmp_path, {"weight": 0.9}, {"weight": 0.4})
    assert own_parameters(recipe, Parameters(target_weight=0.1)) == Parameters(
        source_weight=0.9, target_weight=0.1, density=1.0
    )
    sparse = recipe_with(tmp_path, {"weight": 0.9}, {"weight": 0.4}, density=0.2, select="bottom")
    assert own_parameters(sparse, Parameters()) == Parameters(
        source_weight=0.9, target_weight=0.4, density=0.2, select="bottom", scope="global"
    )
    # Several numbers in one place are not one number.
    uneven = recipe_with(tmp_path, {"weight": [0.1, 0.9]}, {"weight": 0.4, "density": 0.5})
    own = own_parameters(uneven, Parameters())
    assert (own.source_weight, own.target_weight, own.density) == (None, 0.4, None)


def test_a_recipe_at_a_point(tmp_path):
    recipe = recipe_with(tmp_path, {"weight": 0.9, "density": 0.3}, {"weight": 0.4, "density": 0.3})
    at = at_point(
        recipe, Parameters(source_weight=0.7, target_weight=0.6, density=0.2, select="bottom", scope="tensor")
    )
    assert [entry["parameters"] for entry in at["models"]] == [
        {"role": "task"},
        {"role": "source", "weight": 0.7, "density": 0.2},
        {"role": "target", "weight": 0.6, "density": 0.2},
    ]
    assert at["parameters"] == {"select": "bottom", "scope": "tensor"}
    dense = at_point(recipe, Parameters(density=1.0))
    assert [entry["parameters"] for entry in dense["models"][1:]] == [
        {"role": "source", "weight": 0.9},
        {"role": "target", "weight": 0.4},
    ]
    assert "parameters" not in dense
    # A density that stands for the whole recipe does not hold for a point that says otherwise.
    shared = recipe_with(tmp_path, {"weight": 0.9}, {"weight": 0.4}, density=0.2)
    dense = at_point(shared, Parameters(density=1.0))
    assert [entry["parameters"]["density"] for entry in dense["models"][1:]] == [1.0, 1.0]


def test_a_recipes_name_says_its_tasks(tmp_path):
    def tasks(name: str, **given: str) -> tuple:
        path = tmp_path / f"{name}.yml"
        path.write_text((tmp_path / "de_minus_src_plus_tgt.yml").read_text())
        recipe = read_recipe(path, **given)
        return recipe.benchmark, recipe.language, recipe.tasks, recipe.test_tasks

    recipe_with(tmp_path, {"weight": 0.9}, {"weight": 0.4})
    assert tasks("de_plus_tgt") == ("xnli", "de", ("xnli_xlt_dev_de",), ("xnli_xlt_de",))
    assert tasks("marc_de_plus_tgt") == ("marc", "de", ("marc_dev_de",), ("marc_de",))
    benchmark, language, dev, test = tasks("nusax_plus_src")
    assert (benchmark, language, len(dev), len(test)) == ("nusax", None, 9, 9)
    assert tasks("xx_plus_tgt", tasks="a_{language}, b") == (None, "xx", ("a_xx", "b"), ())
    assert tasks("my", tasks="a", test_tasks="b") == (None, None, ("a",), ("b",))
