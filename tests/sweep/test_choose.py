"""Which point a recipe gets, and which recipe gets none."""

import pytest

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.sweep.choosing.best import choose, mean_score
from taxlt_mergekit.sweep.recipe import read_recipe
from tests.helpers.cells import make_cell
from tests.helpers.sweeping import write_recipe

# Language -> λ -> macro-F1; None is a cell that failed.
WHOLE = {"mad": {0.2: 0.5, 0.4: 0.2, 0.6: 0.3}, "sun": {0.2: 0.4, 0.4: 0.5, 0.6: 0.9}}


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """+TGT in two languages of NusaX's mean, and in Ngaju, which is outside it and chosen for by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    found = []
    for code in ("mad", "sun", "nij"):
        write_recipe(tmp_path, f"{code}_plus_tgt", {code: "target"})
        path = tmp_path / "recipes" / f"{code}_plus_tgt.yml"
        found.append(read_recipe(path.relative_to(tmp_path), tasks=f"nusax_senti_dev_{code}"))
    return found


def cells(scores, recipes):
    by_code = {recipe.path.split("/")[1][:3]: recipe for recipe in recipes}
    return [
        make_cell(
            f"{code} {weight}",
            recipe=by_code[code].path,
            benchmark="nusax",
            language=code,
            task=f"nusax_senti_dev_{code}",
            parameters=Parameters(target_weight=weight),
            metrics={} if score is None else {"f1_macro": score},
            status="failed" if score is None else "ok",
            reason="out of memory" if score is None else None,
            documents=None,
        )
        for code, row in scores.items()
        for weight, score in row.items()
    ]


def chosen(scores, recipes, **options):
    found = choose(recipes, cells(scores, recipes), **options)
    return {path.split("/")[1][:3]: point.target_weight for path, point in found.items()}


def test_one_point_for_all_languages_or_one_for_each(recipes):
    assert chosen(WHOLE, recipes) == {"mad": 0.6, "sun": 0.6}
    assert chosen(WHOLE, recipes, per_language=True) == {"mad": 0.2, "sun": 0.6}


@pytest.mark.parametrize(
    ("mad", "points"),
    [
        ({0.2: None, 0.4: None, 0.6: None}, {"sun": 0.6}),  # failed everywhere
        ({}, {"sun": 0.6}),  # a sweep that was stopped
        ({0.6: 0.3}, {"sun": 0.6}),  # the average that chose 0.6 is without it
        ({0.2: 0.5, 0.4: 0.2}, {"mad": 0.2, "sun": 0.2}),  # 0.6 cannot be compared
    ],
)
def test_a_language_without_scores_gets_no_point_of_the_others(recipes, mad, points):
    assert chosen(WHOLE | {"mad": mad}, recipes) == points


def test_a_language_outside_the_mean_changes_nothing_for_the_others(recipes):
    points = chosen(WHOLE | {"nij": {0.2: 0.99, 0.4: 0.1, 0.6: 0.1}}, recipes)
    assert points == {"mad": 0.6, "sun": 0.6, "nij": 0.2}


def test_a_mean_is_over_all_its_tasks_or_there_is_none(recipes):
    tasks = ["nusax_senti_dev_mad", "nusax_senti_dev_sun", "nusax_senti_dev_nij"]
    point = Parameters(target_weight=0.6)
    assert mean_score(cells(WHOLE, recipes), point, tasks) == pytest.approx(0.6)
    assert mean_score(cells(WHOLE, recipes), Parameters(target_weight=0.7), tasks) is None
    assert mean_score(cells(WHOLE | {"mad": {0.6: None}}, recipes), point, tasks) is None
    assert mean_score([], None, []) is None
