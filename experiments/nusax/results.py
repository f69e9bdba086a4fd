"""Results as they are published: a file a seed with all rows of a group of languages, and their reports."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import rows
import search
from runner import Runner
from vectors import EVALUATED

from taxlt_mergekit.cells.choices import Choice, append_choices, read_choices
from taxlt_mergekit.cells.store import Cell, append_cell, read_cells
from taxlt_mergekit.paper.variants import MODEL, is_per_group

UNSEEN, SEEN = "unseen", "seen"  # groups of languages
REGRET = "regret"  # and below it what choosing λ costs in each
CELLS, FACTS = "cells", "facts.json"
SOURCE_ALONE = "plus_src"


def report(run: Runner) -> None:
    """Gather the cells that are there and what training says of itself, and write a report of each group."""
    shutil.rmtree(run.folder / CELLS, ignore_errors=True)
    for group in (UNSEEN, SEEN):
        for folder in sorted((run.folder / group / search.RESULTS).glob("seed-*")):
            for cell in gathered(folder):
                append_cell(run.folder / CELLS / group / folder.name, cell)
        for folder in sorted((run.folder / group / search.REGRET).glob("seed-*/target")):
            place = run.folder / CELLS / REGRET / group / folder.parent.name
            for cell in read_cells(folder):
                if cell.split == "test":
                    append_cell(place, cell.model_copy(update={"versions": {}, "documents": None}))
            append_choices(place, map(without_trials, read_choices(folder)))
    cells = run.folder / CELLS
    for group in groups(cells):
        run.taxlt("report", *command(group, cells), "--output", f"report/{group}", again=True)
    facts = {"perplexity": perplexities(run.folder), "seconds": seconds(run)}
    (cells / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def groups(cells: Path) -> list[str]:
    """Those that are there."""
    every = (UNSEEN, SEEN, f"{REGRET}/{UNSEEN}", f"{REGRET}/{SEEN}")
    return [group for group in every if (cells / group).exists()]


def command(group: str, cells: Path) -> list[str]:
    """Words of `taxlt report` for a group."""
    more = [part for name in baselines(cells / group) for part in ("--baseline", name)]
    return ["report", str(cells / group), "--select-per", "language", *more]


def baselines(folder: Path) -> list[str]:
    """MODEL, and every control that was tested: the source's vector, which is +SRC, among them."""
    found = [cell for place in sorted(folder.iterdir()) for cell in read_cells(place)]
    tested = {cell.variant for cell in found if cell.split == "test"}
    controls = [str(kind.row) for kind in rows.KINDS.values() if kind.is_control]
    return [MODEL, *(name for name in (SOURCE_ALONE, *controls) if name in tested)]


def gathered(folder: Path) -> Iterator[Cell]:
    """The finished cells of a seed, with the names of their rows; the common MODEL's from one kind alone.

    Validation cells are without predictions, of which the report has no use.
    """
    for place in sorted(folder.iterdir(), key=lambda path: path.name != "target"):
        kind = rows.KINDS.get(place.name, rows.KINDS["target"])  # densities are of the target's rows
        for cell in read_cells(place):
            name = (kind.model or MODEL) if cell.variant == MODEL else (kind.row or cell.variant)
            if cell.status != "ok" or (name == MODEL and place.name != "target"):
                continue
            documents = None if cell.split == "dev" else cell.documents
            yield cell.model_copy(update={"variant": name, "versions": {}, "documents": documents})


def without_trials(choice: Choice) -> Choice:
    """Without the curve of a search by group, which no table reads."""
    return choice.model_copy(update={"curve": ()} if is_per_group(choice.variant) else {})


def perplexities(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Of each masked LM, by its folder: training steps and validation perplexity, without interruptions."""
    found = {}
    for path in sorted(
        (*folder.glob("theta0/trainer_state.json"), *folder.glob("seed-*/lang/*/trainer_state.json"))
    ):
        history = json.loads(path.read_text("utf-8"))["log_history"]
        found[path.parent.relative_to(folder).as_posix()] = [
            (row["step"], round(row["eval_perplexity"], 1))
            for row in history
            if "eval_perplexity" in row and row["step"] % EVALUATED == 0
        ]
    return found


def seconds(run: Runner) -> dict[str, float]:
    """Of each stage: wall-clock seconds, of all its starts."""
    found: dict[str, float] = {}
    for row in run.stages():
        found[row["stage"]] = round(found.get(row["stage"], 0.0) + row["seconds"], 1)
    return found
