"""What a report is made of, and its Markdown."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from taxlt_mergekit.plots import Axis, Panel
from taxlt_mergekit.tables import Table


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


def bullets(notes: Iterable[str]) -> list[Block]:
    """A list of notes, each once; no block without notes."""
    lines = [f"- {note}" for note in dict.fromkeys(notes)]
    return ["\n".join(lines)] if lines else []


def markdown(blocks: Iterable[Block]) -> str:
    """One text; a picture is a link to the file of its name beside it."""
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
