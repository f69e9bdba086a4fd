"""The published experiment: its page says what its results say."""

from pathlib import Path
from statistics import fmean

import pytest

from taxlt_mergekit.cells.store import read_cells
from tests.helpers.reports import figures, report

ROOT = Path(__file__).parents[1]
RESULTS = "experiments/nusax/results"
PAGES = ROOT / "docs/results/nusax-minilm"
TRIED = ("faster", "longer", "slower", "third-seed", "third-seed-longer")


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        (("variants", "density"), "report.md"),
        (("variants", "density", "--select-per", "language"), "per-language/report.md"),
        (("control",), "control/report.md"),
        (("first",), "first/report.md"),
        *(((f"tried/{name}",), f"tried/{name}/report.md") for name in TRIED),
    ],
)
def test_the_pages_figures_are_what_the_report_makes_of_the_results(arguments, page, tmp_path):
    report(*arguments, "--output", tmp_path, cwd=ROOT / RESULTS)
    published = figures((PAGES / page).read_text("utf-8"))
    assert len(published) > 10
    assert figures((tmp_path / "report.md").read_text("utf-8")) == published


@pytest.mark.parametrize("kind", ["variants", "control", "first"])
def test_what_was_tested_is_what_validation_chose(kind):
    """On average over seeds, for all languages together or for one of them."""
    cells = [cell for folder in sorted((ROOT / RESULTS / kind).iterdir()) for cell in read_cells(folder)]
    runs: dict = {}
    for cell in cells:
        if cell.split == "dev":
            of_variant = runs.setdefault(cell.variant, {}).setdefault(cell.parameters, {})
            of_variant.setdefault(cell.language or cell.task, []).append(cell.metrics["f1_macro"])
    tested = [cell for cell in cells if cell.split == "test"]
    assert tested
    for cell in tested:
        points = {p: {code: fmean(of) for code, of in row.items()} for p, row in runs[cell.variant].items()}
        chosen = {max(points, key=lambda p: (fmean(points[p].values()), -weight(p)))}
        for language in points[cell.parameters]:
            chosen.add(max(points, key=lambda p: (points[p][language], -weight(p))))
        assert cell.parameters in chosen


def weight(point) -> float:
    return point.weight or 0.0
