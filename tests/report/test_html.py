"""`taxlt report --html`: one file that needs no network, as a browser shows it."""

import io
import re
from pathlib import Path

import pytest

from taxlt_mergekit.cells.store import append_cell
from tests.helpers.browser import chromium_page
from tests.helpers.cells import make_cell
from tests.helpers.hosts import console
from tests.helpers.reports import report

ODD = "<b>odd</b> & own"  # a name that a user gave

# Where in the window a point of the first figure is.
PLACE = """([x, y]) => {
    const figure = [...Bokeh.index.roots].find((view) => view.model.type === "Figure")
    const box = figure.canvas.el.getBoundingClientRect()
    return [box.x + figure.frame.x_scale.compute(x), box.y + figure.frame.y_scale.compute(y)]
}"""


def write_cells(folder: Path) -> Path:
    """+TGT over three λ and MODEL on validation data; on test data MODEL, +TGT and another method."""
    cells = []
    for language, lead in (("aym", 0.0), ("quy", 0.015)):
        for weight, score in ((0.2, 0.4), (0.5, 0.55), (1.0, 0.45)):
            cells.append(("plus_tgt", "dev", language, score + lead, {"target_weight": weight}))
        cells += [("model", split, language, 0.4 + lead, {}) for split in ("dev", "test")]
        cells.append(("plus_tgt", "test", language, 0.5 - lead, {"target_weight": 0.5}))
        cells.append((ODD, "test", language, 0.6, {}))
    for number, (variant, split, language, score, parameters) in enumerate(cells):
        group = "americas_nli_dev" if split == "dev" else "americas_nli"
        fields = {"variant": variant, "split": split, "language": language, "parameters": parameters}
        fields |= {"task": f"{group}_{language}", "metrics": {"acc": score}, "documents": None}
        append_cell(folder, make_cell(str(number), **fields))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = write_cells(tmp_path_factory.mktemp("results"))
    done = report(folder, "--html", "--resamples", "100", "--output", folder / "out")
    assert "report.md, report.html and " in done.stderr
    return folder / "out"


def rows(table) -> list[list[str]]:
    """A drawn table's cells, from top to bottom."""
    return [row.locator(".slick-cell").all_inner_texts() for row in table.locator(".slick-row").all()]


def test_a_browser_shows_the_report_and_answers(written):
    from matplotlib.image import imread

    asked, wrong = [], []
    with chromium_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((written / "report.html").as_uri())
        scores = page.locator(".table").first
        scores.locator(".slick-row").nth(2).wait_for()
        headings = page.locator("h1, h2, h3, h4").all_inner_texts()
        markdown = (written / "report.md").read_text(encoding="utf-8")
        assert headings == re.findall(r"^#+ (.*)", markdown, re.M)
        assert "The mean is over 2 languages of 10" in page.locator("body").inner_text()

        # As in report.md, and at a click on a heading by that column: the highest first, then the lowest.
        in_order = [
            ["MODEL", "40.00", "41.50", "40.75"],
            ["MODEL + TGT", "50.00", "48.50", "49.25"],
            [ODD, "60.00", "60.00", "60.00"],
        ]
        assert scores.locator(".slick-header-column").all_inner_texts() == ["Method", "AYM", "QUY", "mean"]
        assert rows(scores) == in_order
        scores.locator(".slick-header-column").nth(2).click()
        assert rows(scores) == in_order[::-1]
        scores.locator(".slick-header-column").nth(2).click()
        assert rows(scores) == in_order

        # λ 0.5 has the highest score of +TGT, at (0.5, 55.75).
        page.locator(".picture").first.scroll_into_view_if_needed()
        page.mouse.move(*page.evaluate(PLACE, [0.5, 55.75]))
        shown = page.get_by_text("scaling factor λ: 0.5").inner_text(timeout=5000)
        page.screenshot(path=str(written / "page.png"), full_page=True)
        assert "MODEL + TGT" in shown and "average accuracy (%): 55.75" in shown
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    pixels = imread(io.BytesIO((written / "page.png").read_bytes()))
    assert pixels.shape[0] > 1000 and len({tuple(pixel) for pixel in pixels[::7, ::7].reshape(-1, 4)}) > 50


def test_without_bokeh_it_is_one_line_and_nothing_is_written(tmp_path):
    write_cells(tmp_path)
    script = "import sys; sys.modules['bokeh'] = None; from taxlt_mergekit.cli import main; "
    script += "main(sys.argv[1:], prog_name='taxlt')"
    done = console("python", "-c", script, "report", tmp_path, "--html")
    assert done.code == 1
    assert done.stderr == "Error: --html needs Bokeh: pip install 'taxlt-mergekit[html]'\n"
    assert not (tmp_path / "report").exists()
