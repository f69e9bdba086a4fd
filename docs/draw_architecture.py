"""Draws docs/architecture.svg from the imports of the package and the layers of pyproject.toml.

    python docs/draw_architecture.py          # needs the test extra (grimp, import-linter)

A box is a folder or a module at the top, with its number of modules; an arrow an import, thicker for more.
What every folder may use (the lowest layer) has no arrows.
"""

from collections import Counter
from pathlib import Path

import grimp
from importlinter.api import read_configuration
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PACKAGE = "taxlt_mergekit"
OUT = Path(__file__).with_name("architecture.svg")
WIDTH, HEIGHT, STEP = 1.7, 0.62, 1.3
# Where arrows cross few boxes; a folder that is not named here stands in the middle of its layer.
ACROSS = {
    **{"hosts": 4.3, "__main__": -4.6, "cli": -4.6, "demo": -2.3, "report": -4.0, "sweep": 2.2, "train": 5.6},
    **{"export": 1.2, "sft": 3.9, "model_files": 2.6},
    **{"evaluate": -0.9, "cells": -2.4, "merge": 3.3, "paper": 0.2},
    **{"errors": -3.0, "markdown": 0.0, "process": 3.0},
}


def layers() -> list[list[str]]:
    """The folders from top to bottom, as the contract of the layers names them."""
    contracts = read_configuration(str(OUT.parents[1] / "pyproject.toml"))["contracts_options"]
    found = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in found]


def imports() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Modules in each folder, and imports from folder to folder."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    sizes: Counter[str] = Counter()
    arrows: Counter[tuple[str, str]] = Counter()
    for module in graph.modules - {PACKAGE}:
        folder = module.split(".")[1]
        sizes[folder] += 1
        for imported in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            if imported.split(".")[1] != folder:
                arrows[folder, imported.split(".")[1]] += 1
    return sizes, arrows


def draw() -> Figure:
    rows, (sizes, arrows) = layers(), imports()
    figure = Figure(figsize=(9, len(rows)), layout="tight")
    axes = figure.add_subplot()
    places = {name: (ACROSS.get(name, 0.0), -STEP * depth) for depth, row in enumerate(rows) for name in row}
    for (start, end), count in sorted(arrows.items()):
        if end in rows[-1]:
            continue
        (x, y), (to_x, to_y) = places[start], places[end]
        axes.add_patch(
            FancyArrowPatch(
                (x, y - HEIGHT / 2),
                (to_x, to_y + HEIGHT / 2),
                arrowstyle="-|>",
                mutation_scale=11,
                linewidth=0.6 + 0.25 * min(count, 10),
                color="0.55",
                zorder=1,
            )
        )
    for name, (x, y) in places.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - WIDTH / 2, y - HEIGHT / 2),
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0.04",
                facecolor="#E8F1FA" if sizes[name] > 1 else "#F5F5F5",
                edgecolor="#0072B2" if sizes[name] > 1 else "0.6",
                zorder=2,
            )
        )
        label = f"{name}/\n{sizes[name]} modules" if sizes[name] > 1 else f"{name}.py"
        axes.text(x, y, label, ha="center", va="center", fontsize=9, zorder=3)
    axes.set_xlim(-5.6, 6.6)
    axes.set_ylim(-STEP * (len(rows) - 1) - 0.6, 0.6)
    axes.axis("off")
    return figure


if __name__ == "__main__":
    import matplotlib

    # Text stays text; a fixed salt and no date give equal bytes for equal imports.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "taxlt"}):
        draw().savefig(OUT, metadata={"Date": None})
    print(f"wrote {OUT}")
