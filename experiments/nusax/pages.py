"""Results as they are published: a file a seed with all rows of a group of languages, and their report."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import rows
from runner import Runner

from taxlt_mergekit.cells.store import Cell, append_cell, read_cells
from taxlt_mergekit.paper.variants import MODEL

# Group in the folder of cells → where its sweeps are.
GROUPS = {"unseen": "unseen/results", "seen": "seen/results", "looks": "unseen/looks"}
CELLS = "cells"


def report(run: Runner) -> None:
    """Gather the cells that are there below `cells/`, and write a report of each group."""
    shutil.rmtree(run.folder / CELLS, ignore_errors=True)
    for group, place in GROUPS.items():
        for folder in sorted((run.folder / place).glob("seed-*")):
            for cell in gathered(folder):
                append_cell(run.folder / CELLS / group / folder.name, cell)
        if (run.folder / CELLS / group).exists():
            more = ("--select-per", "language", "--output", f"report/{group}")
            run.taxlt("report", "report", f"{CELLS}/{group}", *more, again=True)


def gathered(folder: Path) -> Iterator[Cell]:
    """The finished cells of a seed, with the names of their rows; MODEL's from the first kind alone.

    Validation cells are without predictions, of which the report has no use.
    """
    for kind in sorted(folder.iterdir(), key=lambda path: path.name != "target"):
        row = rows.KINDS[kind.name].row if kind.name in rows.KINDS else None
        for cell in read_cells(kind):
            if cell.status != "ok" or (cell.variant == MODEL and kind.name not in ("target", "soup")):
                continue
            changed: dict = {"versions": {}}
            if kind.name == "soup" and cell.variant == MODEL:
                changed["variant"] = str(row).partition(",")[0]
            elif row:
                changed["variant"] = row
            if cell.split == "dev":
                changed["documents"] = None
            yield cell.model_copy(update=changed)
