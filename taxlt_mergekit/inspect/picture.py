"""A heat map of each vector: layers down, kinds of tensor across."""

import math
from typing import TYPE_CHECKING

from taxlt_mergekit.inspect.facts import by_layer, summed
from taxlt_mergekit.inspect.page import in_order, labels
from taxlt_mergekit.inspect.vectors import Vectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(vectors: Vectors) -> "Figure":
    """A panel with the size of each vector, on one scale, and one with each language vector's cosine."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    places = by_layer(vectors.facts)
    cells = summed(vectors.facts, {name: "\0".join(place) for name, place in places.items()})
    layers = sorted({layer for layer, _ in places.values()}, key=in_order)
    kinds = list(
        dict.fromkeys(kind for _, kind in sorted(places.values(), key=lambda place: in_order(place[0])))
    )
    names = labels(vectors)

    def grid(value) -> list[list[float]]:
        found = [[cells.get(f"{layer}\0{kind}") for kind in kinds] for layer in layers]
        return [[math.nan if facts is None else value(facts) for facts in row] for row in found]

    sizes = [
        grid(lambda facts, i=i: math.nan if facts.size(i) is None else 100 * facts.size(i))
        for i in range(len(names))
    ]
    cosines = [grid(lambda facts, i=i: facts.cosine(i, 0) or 0.0) for i in range(1, len(names))]
    # A tensor that starts at zero would take all colours for itself.
    finite = sorted(value for panel in sizes for row in panel for value in row if math.isfinite(value))
    top = finite[int(0.95 * (len(finite) - 1))] if finite else 1.0
    width = max(
        (abs(value) for panel in cosines for row in panel for value in row if value == value), default=1.0
    )

    figure = Figure(
        figsize=(2.5 + 0.3 * len(kinds) * len(names), 3.0 + 0.5 * len(layers)),
        dpi=150,
        layout=ConstrainedLayoutEngine(),
    )
    panels = figure.subplots(2 if cosines else 1, len(names), squeeze=False, sharey=True)
    for axes, name, panel in zip(panels[0], names, sizes, strict=True):
        shown = axes.imshow(panel, vmin=0, vmax=top or 1.0, cmap="viridis", aspect="auto")
        axes.set_title(name, fontsize=10)
    figure.colorbar(shown, ax=list(panels[0]), label="‖τ‖/‖θ₀‖ (%)", extend="max")
    if cosines:
        for axes, panel in zip(panels[1][1:], cosines, strict=True):
            shown = axes.imshow(panel, vmin=-(width or 1.0), vmax=width or 1.0, cmap="RdBu_r", aspect="auto")
        figure.colorbar(shown, ax=list(panels[1]), label="cosine with the task vector")
        panels[1][0].set_visible(False)
        panels[1][1].tick_params(labelleft=True)
    for axes in panels.flat:
        axes.set_xticks(range(len(kinds)), kinds, rotation=90, fontsize=7)
        axes.set_yticks(range(len(layers)), layers, fontsize=7)
    return figure
