"""Documents without labels from a file of the user's: a document a line, a pair as two columns."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.files import text_lines

# More say no more of a class's share than half a point, and a sweep reads them at every point.
MOST = 400


@dataclass(frozen=True)
class Text:
    """Documents of one or two texts each, and the file that they are from."""

    name: str
    documents: tuple[tuple[str, ...], ...]

    @cached_property
    def content(self) -> str:
        """A hash of the documents."""
        return hashlib.sha256(json.dumps(self.documents).encode()).hexdigest()


def read_documents(path: Path, most: int = MOST) -> Text:
    """The documents of a file: its lines without empty ones; a pair has a tab between its two texts.

    Args:
        most: of more documents so many are taken, evenly spread over the file.

    Raises:
        UserError: no such file, not text, no document, or lines with and without a tab.
    """
    rows = [(number, line.strip().split("\t")) for number, line in text_lines(path)]
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise UserError(f"--text {path}: holds no text; a document a line is read")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width or width > 2:
            raise UserError(
                f"--text {path}, line {number}: {len(row)} columns, line {rows[0][0]} has {width}; "
                "every line is one text, or a pair with one tab between"
            )
    step = max(1.0, len(rows) / most)
    chosen = [rows[int(place * step)][1] for place in range(min(most, len(rows)))]
    return Text(str(path), tuple(tuple(part.strip() for part in row) for row in chosen))
