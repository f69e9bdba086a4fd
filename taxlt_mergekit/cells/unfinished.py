"""A file in a sweep's folder for as long as cells are missing, so that a part is not taken for the whole.

It is written before the first cell and removed after the last; a sweep that was killed, or whose cells
failed, leaves it there until the same command is through.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from taxlt_mergekit.errors import translated

_PREFIX = "unfinished-"


def mark(folder: Path, sweep: str, cells: int, recipes: Sequence[str]) -> Path:
    """Write the file.

    Args:
        sweep: the same for the same command, another for others.
        cells: how many it is to have.
        recipes: their names.

    Raises:
        UserError: the folder cannot be written.
    """
    path = _place(folder, sweep)
    with translated(f"{path}: cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cells": cells, "recipes": list(recipes)}) + "\n", encoding="utf-8")
    return path


def unmark(folder: Path, sweep: str) -> None:
    """Remove the file, if it is there."""
    with translated(f"{folder}: cannot be written"):
        _place(folder, sweep).unlink(missing_ok=True)


def stopped_sweeps(folder: Path) -> list[str]:
    """A note on each sweep in a folder that is not through."""
    return [_note(path) for path in sorted(folder.glob(f"{_PREFIX}*.json"))]


def _place(folder: Path, sweep: str) -> Path:
    return folder / f"{_PREFIX}{sweep}.json"


def _note(path: Path) -> str:
    try:
        plan = json.loads(path.read_bytes())
        extent = f" of {plan['cells']} cells ({', '.join(plan['recipes'])})"
    except (OSError, ValueError, KeyError, TypeError):
        extent = ""
    return (
        f"Unfinished: a sweep{extent} in {path.parent} was stopped, had failures, or still runs. Choices and "
        f"means are of what is there; the same command goes on (or remove {path.name})."
    )
