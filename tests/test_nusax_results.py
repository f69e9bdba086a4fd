"""The published experiment: its page says what its results say."""

from pathlib import Path

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


def test_no_test_score_was_seen_by_a_choice():
    """A variant was tested at the factor for all languages together and at that for each, no other."""
    for folder in sorted(path.parent for path in (ROOT / RESULTS).rglob("cells.jsonl")):
        tested: dict = {}
        for cell in read_cells(folder):
            if cell.split == "test" and cell.variant != "model":
                tested.setdefault((cell.seed, cell.language, cell.variant), []).append(cell.parameters)
        for where, points in tested.items():
            assert len(points) <= 2, where
