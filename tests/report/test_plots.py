"""The pictures: nothing overlaps or is cut off, and the curves tell apart without colour."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from taxlt_mergekit.report import plots

DENSITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90)

LABELS = [f"{select}-k, {scope} threshold" for scope in ("global", "tensor") for select in ("top", "bottom")]


def panel(curves: int) -> plots.Panel:
    return plots.Panel(
        "AmericasNLI (validation, λ = source 0.3, target 0.9)",
        "average accuracy (%)",
        tuple(
            plots.Curve(LABELS[i], i, tuple((k, 40 + i + k / 10) for k in DENSITIES)) for i in range(curves)
        ),
        {plots.DENSE: 51.0, plots.MODEL: 38.0},
    )


@pytest.mark.parametrize("panels", [1, 2, 3, 4])
@pytest.mark.parametrize("curves", [2, 4])
def test_nothing_overlaps_and_nothing_is_cut_off(panels, curves):
    figure = plots.draw(
        [panel(curves)] * panels,
        plots.DENSITY,
        "MODEL + SRC + TGT: score by density\nFacebookAI/xlm-roberta-base",
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == panels
    boxes = [artist.get_tightbbox(renderer) for artist in (*shown, *figure.legends, figure._suptitle)]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    width, height = canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    for axes in shown:
        assert axes.get_xlabel() == "kept share k of the language vectors (%)"
        assert axes.get_ylabel() == "average accuracy (%)"
    assert len(figure.legends[0].get_texts()) == curves + 2


def test_curves_tell_apart_in_grey():
    assert len({style["marker"] for style in plots.STYLES}) == len(plots.STYLES)
    styles = [*plots.STYLES, *plots.LINES.values()]
    assert len({str((style["linestyle"], style.get("marker"))) for style in styles}) == len(styles)

    def lightness(color):
        return sum(weight * part for weight, part in zip((0.299, 0.587, 0.114), to_rgb(color), strict=True))

    top, bottom = (lightness(style["color"]) for style in plots.STYLES[:2])
    assert abs(top - bottom) > 0.2


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files = plots.save(plots.draw([panel(4)], plots.DENSITY, "title"), tmp_path / name / "figure")
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
