"""Rows of other merge methods in the table of methods."""

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.paper.variants import table_name_of, variant_of
from taxlt_mergekit.report.by_language import by_language
from taxlt_mergekit.report.study import Options, studies
from taxlt_mergekit.report.tables import Table, page
from tests.helpers.cells import make_cell


def test_names():
    assert variant_of("xlt_dare_ties", ["task", "target"]) == "xlt_dare_ties_plus_tgt"
    assert variant_of("xlt_sce", ["source", "target"]) == "xlt_sce_plus_src_plus_tgt"
    assert variant_of("xlt_linear", ["task", "task"]) == "xlt_linear_model"
    assert variant_of("xlt_analogy", ["target"]) is None and variant_of("ties", ["target"]) is None
    assert table_name_of("xlt_dare_ties_plus_tgt") == "DARE TIES, +TGT"
    assert table_name_of("xlt_sce_plus_src_plus_tgt") == "SCE, +SRC+TGT"
    assert table_name_of("xlt_linear_model") == "LINEAR, MODEL"
    assert table_name_of("plus_tgt") == "MODEL + TGT" and table_name_of("jav_plus_tgt") == "jav_plus_tgt"


def test_a_method_has_one_row_whatever_density_was_chosen():
    """The paper's own methods have one for dense and one for sparse vectors."""
    cells = []
    for code, best in (("quy", 0.2), ("aym", 1.0)):
        cells.append(cell(code, "model", "dev", Parameters(), 0.3))
        cells.append(cell(code, "model", "test", Parameters(), 0.3))
        for density in (0.2, 1.0):
            point = Parameters(target_weight=0.5, density=density)
            score = 0.6 if density == best else 0.4
            cells.append(cell(code, "xlt_ties_plus_tgt", "dev", point, score))
            if density == best:
                cells.append(cell(code, "xlt_ties_plus_tgt", "test", point, score))
    (study,) = studies(cells)
    blocks = by_language(study, Options(per_language=True, resamples=50))
    scores, differences = (block for block in blocks if isinstance(block, Table))
    assert [row[0] for row in scores.rows] == ["MODEL", "TIES, +TGT"]
    mean = scores.header.index("mean")
    assert scores.rows[1][mean].value == 60.0
    assert differences.header == ("Language", "TIES, +TGT")
    text = page(blocks)
    assert "density 0.2" in text and "top" not in text


def test_more_methods_than_languages_stand_one_below_the_other():
    cells = [cell("quy", "model", split, Parameters(), 0.3) for split in ("dev", "test")]
    gains = {"plus_tgt": 0.5, "xlt_ties_plus_tgt": 0.4, "xlt_sce_plus_tgt": 0.1}
    for variant, score in gains.items():
        point = Parameters(target_weight=0.5)
        cells += [cell("quy", variant, split, point, score) for split in ("dev", "test")]
    (study,) = studies(cells)
    blocks = by_language(study, Options(per_language=True, resamples=50))
    _, differences = (block for block in blocks if isinstance(block, Table))
    assert differences.header == ("Method", "QUY", "mean")
    found = {label: (item.value, mean.value) for label, item, mean in differences.rows}
    names = {table_name_of(variant): round(100 * (score - 0.3)) for variant, score in gains.items()}
    assert list(found) == ["MODEL + TGT", "SCE, +TGT", "TIES, +TGT"]
    for name, points in names.items():
        assert [round(value) for value in found[name]] == [points, points]


def cell(code, variant, split, parameters, score):
    # Labels by document whose accuracy is the score.
    right = round(10 * score)
    documents = {"target": [0] * 10, "prediction": [0] * right + [1] * (10 - right)}
    return make_cell(
        key=f"{code} {variant} {split} {parameters}",
        language=code,
        task=f"americas_nli_{code}",
        variant=variant,
        split=split,
        parameters=parameters,
        metrics={"acc": right / 10},
        documents=documents,
    )
