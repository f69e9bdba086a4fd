"""`taxlt report` and the tables that it writes."""

import csv
from pathlib import Path

from tests.helpers.hosts import Outcome, forked


def report(*arguments: object, code: int = 0, cwd: Path | None = None) -> Outcome:
    """Run `taxlt report`, and expect this exit code and no traceback."""
    done = forked("taxlt", "report", *arguments, cwd=cwd)
    assert done.code == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """A table's CSV file: first column -> the others by their header."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[1:]}


def figures(page: str) -> list[list[str]]:
    """Every row of a page's Markdown tables, without their layout, bold type and stars."""
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip(" *\\") for cell in row] for row in rows if set("".join(row)) - set("-: ")]
