"""What a report is made of: headings, tables, pictures and text; as Markdown, and a table as CSV too.

An item of a table is `shown` to a reader, is `text` in Markdown, and is `plain` for programs.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from taxlt_mergekit import markdown
from taxlt_mergekit.report.plots import Axis, Panel

NOTHING = "–"


@dataclass(frozen=True)
class Number:
    """A figure in the unit that the table's heading gives; `best` is set in bold, None is a dash."""

    value: float | None
    best: bool = False
    signed: bool = False
    digits: int = 2

    @property
    def shown(self) -> str:
        if self.value is None:
            return NOTHING
        value = round(self.value, self.digits) + 0.0  # a negative zero becomes a positive one
        return f"{value:{'+' if self.signed else ''}.{self.digits}f}".replace("-", "−")

    @property
    def text(self) -> str:
        return f"**{self.shown}**" if self.best and self.value is not None else self.shown

    @property
    def plain(self) -> str:
        return "" if self.value is None else f"{self.value:.{self.digits + 2}f}"


@dataclass(frozen=True)
class Difference:
    """A difference in points, with its interval where there is one and a star where that excludes zero."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def shown(self) -> str:
        text = Number(self.value, signed=True).shown
        if self.low is None:
            return text
        bounds = f"{Number(self.low, signed=True).shown}, {Number(self.high, signed=True).shown}"
        return f"{text} [{bounds}]{' *' * self.excludes_zero}"

    @property
    def text(self) -> str:
        return self.shown.replace("*", r"\*")

    @property
    def plain(self) -> str:
        return Number(self.value).plain


Item: TypeAlias = str | Number | Difference


@dataclass(frozen=True)
class Table:
    """Rows of items under a header. `name` is the stem of its CSV file."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[Item, ...], ...]

    def markdown(self) -> str:
        """Padded, so that it reads as a table in a terminal too."""
        rows = [[item if isinstance(item, str) else item.text for item in row] for row in self.rows]
        return markdown.table(self.header, rows)

    def csv(self) -> str:
        """The same grid without bold; figures have two more digits than in Markdown.

        A difference takes four columns: its value, the interval's two ends, and 1 where it excludes zero.
        """
        wide = [any(isinstance(row[i], Difference) for row in self.rows) for i in range(len(self.header))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        header: list[str] = []
        for name, is_wide in zip(self.header, wide, strict=True):
            header += [name, f"{name} low", f"{name} high", f"{name} excludes 0"] if is_wide else [name]
        writer.writerow(header)
        for row in self.rows:
            line: list[str] = []
            for item, is_wide in zip(row, wide, strict=True):
                line.append(item if isinstance(item, str) else item.plain)
                if is_wide and isinstance(item, Difference):
                    ends = [Number(item.low).plain, Number(item.high).plain]
                    line += [*ends, "" if item.low is None else str(int(item.excludes_zero))]
                elif is_wide:
                    line += [""] * 3
            writer.writerow(line)
        return out.getvalue()


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Picture:
    """A figure; `name` is the stem of its files."""

    name: str
    title: str
    axis: Axis
    panels: tuple[Panel, ...]


Block: TypeAlias = Heading | Table | Picture | str


def page(blocks: Iterable[Block]) -> str:
    """The whole as Markdown; a picture is a link to the file of its name beside it."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Table):
            parts.append(block.markdown())
        elif isinstance(block, Picture):
            parts.append(f"![{', '.join(block.title.splitlines())}]({block.name}.svg)")
        else:
            parts.append(block)
    return "\n\n".join(parts) + "\n"


def bullets(notes: Iterable[str]) -> list[Block]:
    """A list of notes, each once; no block without notes."""
    lines = [f"- {note}" for note in dict.fromkeys(notes)]
    return ["\n".join(lines)] if lines else []


def column_best(values: Sequence[float | None]) -> list[bool]:
    """Which of a column's scores are its highest as printed, with two decimals."""
    printed = [None if value is None else round(value, 2) for value in values]
    top = max((value for value in printed if value is not None), default=None)
    return [value is not None and value == top for value in printed]


def difference_row(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[Number]:
    """ours − theirs, a dash where one is missing."""
    return [
        Number(None if a is None or b is None else a - b, signed=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
