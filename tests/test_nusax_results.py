"""The published experiment: its page says what its results say."""

from pathlib import Path
from statistics import fmean

import pytest

from taxlt_mergekit.results import read_cells
from tests.hosts import console

ROOT = Path(__file__).parents[1]
RESULTS = Path("experiments/nusax/results")
PAGES = ROOT / "docs/results/nusax-minilm"


@pytest.mark.parametrize(
    ("folders", "page"),
    [(("variants", "density"), PAGES / "report.md"), (("control",), PAGES / "control/report.md")],
)
def test_the_page_is_what_the_report_makes_of_the_results(folders, page, tmp_path):
    done = console("taxlt", "report", *(RESULTS / name for name in folders), "--output", tmp_path, cwd=ROOT)
    assert done.code == 0, done.stderr
    assert (tmp_path / "report.md").read_text("utf-8") == page.read_text("utf-8")


@pytest.mark.parametrize("folder", sorted((ROOT / RESULTS).glob("*/seed-*")), ids=lambda f: f.parent.name)
def test_what_was_tested_is_what_validation_chose(folder):
    """For all languages together, or for one of them."""
    scores: dict = {}
    for cell in read_cells(folder):
        if cell.split == "dev":
            of_variant = scores.setdefault(cell.variant, {}).setdefault(cell.parameters, {})
            of_variant[cell.language or cell.task] = cell.metrics["f1_macro"]
    for cell in read_cells(folder):
        if cell.split == "test":
            points = scores[cell.variant]
            chosen = {max(points, key=lambda p: (fmean(points[p].values()), -weight(p)))}
            for language in points[cell.parameters]:
                chosen.add(max(points, key=lambda p: (points[p][language], -weight(p))))
            assert cell.parameters in chosen


def weight(point) -> float:
    return point.target_weight or point.source_weight or 0.0
