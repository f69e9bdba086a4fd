"""The chosen cell: best average over languages, on complete grids only."""

import pytest

from taxlt_mergekit.cells.selection import best_parameters, complete, grid, in_mean, metric_of
from taxlt_mergekit.cells.store import Parameters
from tests.helpers.cells import make_cell


def cells(scores: dict[float, dict[str, float]], **fields):
    return [
        make_cell(
            f"{weight}{code}",
            parameters={"target_weight": weight},
            language=code,
            metrics={"acc": score},
            **fields,
        )
        for weight, row in scores.items()
        for code, score in row.items()
    ]


def test_the_best_average_wins_not_the_best_cell():
    scores = grid(cells({0.1: {"quy": 0.9, "gn": 0.1}, 0.5: {"quy": 0.6, "gn": 0.6}}))
    assert best_parameters(scores) == Parameters(target_weight=0.5)
    quechua = {parameters: {"quy": row["quy"]} for parameters, row in scores.items()}
    assert best_parameters(quechua) == Parameters(target_weight=0.1)


def test_an_incomplete_row_cannot_win():
    scores = grid(cells({0.1: {"quy": 0.4, "gn": 0.3}, 0.5: {"quy": 0.9}}))
    assert best_parameters(complete(scores)) == Parameters(target_weight=0.1)


def test_averages_are_over_the_largest_full_part():
    whole = {"quy": 0.4, "gn": 0.3, "aym": 0.2}
    under_way = grid(cells({0.1: whole, 0.2: {"quy": 0.4, "gn": 0.3}, 0.3: {"quy": 0.4, "gn": 0.3}}))
    assert {tuple(row) for row in complete(under_way).values()} == {("gn", "quy")}
    assert len(complete(under_way)) == 3
    with_a_failure = grid(cells({0.1: whole, 0.2: whole, 0.3: {"quy": 0.9, "gn": 0.9}}))
    assert complete(with_a_failure) == {p: row for p, row in with_a_failure.items() if len(row) == 3}
    assert complete({}) == {}


def test_seeds_are_averaged_and_failed_cells_left_out():
    rows = [
        make_cell("a", seed=1, metrics={"acc": 0.5}),
        make_cell("b", seed=2, metrics={"acc": 0.7}),
        make_cell("c", seed=3, metrics={}, documents=None, status="failed", reason="out of memory"),
    ]
    assert grid(rows) == {Parameters(target_weight=0.9): {"quy": pytest.approx(0.6)}}


def test_ties_go_to_the_smaller_factor():
    assert best_parameters(grid(cells({0.7: {"quy": 0.5}, 0.3: {"quy": 0.5}}))) == Parameters(
        target_weight=0.3
    )
    assert best_parameters({}) is None


def test_density_1_is_dense_whatever_is_selected():
    rows = [
        make_cell("a", seed=1, parameters={"target_weight": 0.9, "density": 1.0, "select": "top"}),
        make_cell("b", seed=2, parameters={"target_weight": 0.9}),
    ]
    assert list(grid(rows)) == [Parameters(target_weight=0.9)]


def test_the_metric_is_the_benchmarks():
    assert metric_of(make_cell()) == "acc"
    assert metric_of(make_cell(benchmark="nusax")) == "f1_macro"
    assert metric_of(make_cell(benchmark=None, metrics={"perplexity": 3.0})) == "perplexity"


def test_source_languages_are_outside_the_mean():
    assert in_mean("nusax", "jav")
    assert not in_mean("nusax", "nij")
    assert in_mean(None, "some_task")
