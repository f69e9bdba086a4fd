"""The stored tables hold together as the paper's do: averages, table 4 against 8, table 9 against 3."""

import pytest

from taxlt_mergekit.paper import catalog, tables
from taxlt_mergekit.paper.tables import Figure, printed_factor, printed_mean, printed_score, printed_score_at
from taxlt_mergekit.paper.variants import VARIANTS

SCORES = tables.load().scores
ROWS = [pytest.param(table, name, id=f"{table.table}-{name}") for table in SCORES for name in table.rows]


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_row_averages_to_the_printed_mean(table, name):
    row = table.rows[name]
    assert len(row.scores) == len(table.languages)
    # Printed with two decimals: half a unit in the last place, and a hair for binary fractions.
    assert sum(row.scores) / len(row.scores) == pytest.approx(row.mean, abs=0.005 + 1e-9)


def test_all_tables_are_there_with_the_catalogs_languages():
    assert [table.table for table in SCORES] == ["2a", "2b", "2c", "7", "8a", "8b"]
    for table in SCORES:
        assert set(table.languages) == set(catalog.load().benchmarks[table.benchmark].languages)
        assert {"model", *VARIANTS} <= set(table.rows)


def test_table_4_is_the_averages_of_table_8():
    (four,) = tables.load().means
    for name, row in four.rows.items():
        for benchmark, value in row.items():
            (eight,) = [t for t in SCORES if (t.benchmark, t.model) == (benchmark, four.model)]
            assert eight.table in ("8a", "8b")
            assert value == eight.rows[name].mean


def test_table_9_is_the_best_of_table_3():
    (three,) = tables.load().scaling
    assert list(three.rows) == [round(0.1 * step, 1) for step in range(1, 11)]
    for benchmark in catalog.load().benchmarks:
        best = max(three.rows, key=lambda factor: three.rows[factor][benchmark])
        assert printed_factor(benchmark, three.model, three.variant).value == best


def test_figures_are_found_with_their_tables_number():
    assert printed_score("americas_nli", "base", "plus_tgt", "quy") == Figure(value=64.93, table="2b")
    assert printed_score("americas_nli", "large", "plus_tgt", "quy") == Figure(value=66.53, table="8a")
    assert printed_score("marc", "base", "minus_src_plus_tgt", "ja") == Figure(value=78.55, table="7")
    assert printed_score("marc", "large", "model", "ja") is None
    assert printed_score("nusax", "base", "model", "ind") is None
    assert printed_score_at("nusax", "base", "plus_src_plus_tgt", 0.1 * 7) == Figure(value=81.1, table="3")
    assert printed_score_at("nusax", "base", "plus_tgt", 0.7) is None
    assert printed_factor("nusax", "large", "plus_src") == Figure(value=0.2, table="9b")


def test_a_mean_is_the_printed_one_or_that_of_the_languages_asked_for():
    everything = catalog.load().benchmarks["americas_nli"].languages
    assert printed_mean("americas_nli", "base", "plus_src_plus_tgt", everything).value == 47.80
    some = printed_mean("americas_nli", "base", "plus_tgt", ["quy", "gn"])
    assert some.value == pytest.approx((64.93 + 59.87) / 2)
    assert printed_mean("americas_nli", "base", "plus_tgt", ["quy", "xx"]) is None
    assert printed_mean("americas_nli", "base", "plus_tgt", []) is None


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("FacebookAI/xlm-roberta-base", "base"),
        ("xlm-roberta-large", "large"),
        ("models/xlm-roberta-base/", "base"),
        ("google-bert/bert-base-multilingual-cased", None),
    ],
)
def test_a_model_is_known_by_its_id_or_folder(model, size):
    assert catalog.size_of(model) == size
