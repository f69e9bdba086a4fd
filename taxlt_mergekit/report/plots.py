"""The report's pictures: scores by density (figures 1 to 3) and by scaling factor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxlt_mergekit.paper.variants import VariantKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Variants in the order of their curves' styles.
CURVES: tuple[VariantKey, ...] = ("plus_tgt", "minus_src_plus_tgt", "plus_src_plus_tgt", "plus_src")
# Colours of different lightness (Okabe and Ito's), markers and dashes: each tells the curves apart alone.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    {"color": "#56B4E9", "marker": "^", "linestyle": "-."},
    {"color": "#A65628", "marker": "v", "linestyle": (0, (1, 1))},
    {"color": "0.45", "marker": "x", "linestyle": (0, (3, 1, 1, 1, 1, 1))},
)
DENSE, MODEL = "dense", "MODEL"
LINES: dict[str, dict[str, Any]] = {
    DENSE: {"color": "black", "linestyle": (0, (8, 3))},
    MODEL: {"color": "0.45", "linestyle": ":"},
}


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a figure's panels."""

    label: str
    limits: tuple[float, float] | None = None
    step: float | None = None


DENSITY = Axis("kept share k of the language vectors (%)", (0, 100), 20)
SCALING_FACTOR = Axis("scaling factor λ")


@dataclass(frozen=True)
class Curve:
    """Scores in percent; curves of one label and style look the same in all panels.

    Attributes:
        label: its name in the legend.
        style: index into STYLES.
        points: (x, score).
    """

    label: str
    style: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One benchmark or language: its curves, and the scores in percent of DENSE and MODEL, where known."""

    title: str
    metric: str
    curves: tuple[Curve, ...]
    lines: Mapping[str, float]


def draw(panels: Sequence[Panel], axis: Axis, title: str | None = None) -> "Figure":
    """One row of up to two panels, further ones below, with one legend for all."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MultipleLocator

    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(1.3 + 3.8 * columns, 1.3 + 2.9 * rows), dpi=150, layout=layout)
    grid = figure.subplots(rows, columns, squeeze=False)
    handles = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        for curve in panel.curves:
            x, y = zip(*curve.points, strict=True)
            style = STYLES[curve.style % len(STYLES)]
            (handles[curve.label],) = axes.plot(x, y, **style, markersize=5, linewidth=1.6)
        for label, value in panel.lines.items():
            handles[label] = axes.axhline(value, **LINES[label], linewidth=1.4)
        axes.set_title(panel.title, fontsize=11)
        axes.set_ylabel(panel.metric)
        axes.set_xlabel(axis.label)
        if axis.limits:
            axes.set_xlim(axis.limits)
        if axis.step:
            axes.xaxis.set_major_locator(MultipleLocator(axis.step))
        axes.margins(y=0.08)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(len(handles), 2 * columns),
        frameon=False,
    )
    return figure


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg`; the same figure gives the same bytes."""
    import matplotlib

    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    # Text stays text in the SVG; a fixed salt and no date make its ids and its head reproducible.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "taxlt"}):
        figure.savefig(files[0])
        figure.savefig(files[1], metadata={"Date": None})
    return files
