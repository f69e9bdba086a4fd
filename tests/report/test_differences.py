"""Rows that were trained with different seeds: differences between them, and what is said of them."""

from statistics import fmean

import pytest

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.report.by_density import by_density
from taxlt_mergekit.report.by_language import by_language
from taxlt_mergekit.report.study import Options, studies
from taxlt_mergekit.report.tables import Table, page
from tests.helpers.cells import make_cell

# Right answers of ten, by row, language and training seed.
RIGHT = {
    "model": {"quy": {1: 4, 2: 6}, "aym": {1: 5, 2: 7}},
    "plus_tgt": {"quy": {1: 7, 2: 7}, "aym": {1: 8, 2: 8}},
    "plus_src": {"quy": {1: 5}, "aym": {1: 5}},
    "minus_src_plus_tgt": {"quy": {1: 8, 2: 6}, "aym": {2: 9}},
}
LABELS = {
    "plus_tgt": "MODEL + TGT",
    "plus_src": "MODEL + SRC",
    "minus_src_plus_tgt": "MODEL − SRC + TGT",
}


def blocks(right: dict, baseline: str = "model") -> list:
    cells = [
        make_cell(
            key=f"{variant} {code} {seed}",
            language=code,
            task=f"americas_nli_{code}",
            variant=variant,
            split="test",
            seed=seed,
            parameters=Parameters() if variant == "model" else Parameters(target_weight=0.5),
            metrics={"acc": found / 10},
            documents={"target": [0] * 10, "prediction": [0] * found + [1] * (10 - found)},
        )
        for variant, of_variant in right.items()
        for code, of_code in of_variant.items()
        for seed, found in of_code.items()
    ]
    (study,) = studies(cells)
    return by_language(study, Options(per_language=True, resamples=200, baselines=(baseline,)))


def found(of_report: list) -> dict[str, dict[str, object]]:
    """Label -> language or `mean` -> the difference."""
    _, table = (block for block in of_report if isinstance(block, Table))
    columns = zip(*table.rows, strict=True)
    codes = [code.lower() for code in next(columns)]
    if table.header[0] == "Method":
        return {
            row[0]: dict(zip((c.lower() for c in table.header[1:]), row[1:], strict=True))
            for row in table.rows
        }
    return {
        label: dict(zip(codes, of, strict=True)) for label, of in zip(table.header[1:], columns, strict=True)
    }


@pytest.mark.parametrize("baseline", ["model", "plus_src"])
def test_rows_are_compared_over_the_seeds_that_both_have(baseline):
    items = found(blocks(RIGHT, baseline))
    for variant, label in LABELS.items():
        if variant == baseline:
            continue
        expected = []
        for code in ("quy", "aym"):
            ours, theirs = RIGHT[variant][code], RIGHT[baseline][code]
            seeds = ours.keys() & theirs.keys() or None
            means = [fmean(of[seed] for seed in seeds or of) for of in (ours, theirs)]
            expected.append(10 * (means[0] - means[1]))
            assert items[label][code].value == pytest.approx(expected[-1])
        assert items[label]["mean"].value == pytest.approx(fmean(expected))


def test_their_intervals_are_those_of_the_common_seeds_alone():
    one = {
        variant: {code: {1: of_code[1]} for code, of_code in RIGHT[variant].items()}
        for variant in ("model", "plus_src")
    }
    alone, among = found(blocks(one))["MODEL + SRC"], found(blocks(RIGHT))["MODEL + SRC"]
    assert [(item.low, item.high) for item in among.values()] == [
        (item.low, item.high) for item in alone.values()
    ]


def test_the_report_says_which_seeds_a_row_has():
    text = page(blocks(RIGHT))
    assert (
        "Scores are means over MODEL: seeds 1 and 2; MODEL + SRC: seed 1; MODEL + TGT: seeds 1 and 2; "
        "MODEL − SRC + TGT: aym seed 2, quy seeds 1 and 2; so none is in bold." in text
    )
    assert "**" not in text
    assert "MODEL + SRC on aym, quy: over seed 1 alone, which both have." in text
    assert "MODEL − SRC + TGT on aym: over seed 2 alone, which both have." in text


@pytest.mark.parametrize("seeds", [(1, 2), (None,)])
def test_nothing_is_said_where_all_rows_have_the_same(seeds):
    same = {
        variant: {code: dict.fromkeys(seeds, 5) for code in ("quy", "aym")}
        for variant in ("model", "plus_tgt")
    }
    text = page(blocks(same))
    assert "seed 1" not in text and "means over MODEL" not in text and "**" in text


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_densities_of_fewer_seeds_are_told(seeds):
    dense, sparse = Parameters(target_weight=0.5), Parameters(target_weight=0.5, density=0.2, select="top")
    runs = [("model", Parameters(), (1, 2)), ("plus_tgt", dense, (1, 2)), ("plus_tgt", sparse, seeds)]
    cells = [
        make_cell(key=f"{variant} {point} {seed}", variant=variant, parameters=point, seed=seed)
        for variant, point, of_point in runs
        for seed in of_point
    ]
    text = page(by_density(studies(cells), Options()))
    assert "Score by density" in text
    for name in ("dense", "MODEL"):
        told = f"{name} is the mean over seeds 1 and 2, densities over seed 1." in text
        assert told == (seeds == (1,))
