"""What is published for a benchmark's languages and task (`published.yaml`), as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from taxlt_mergekit import markdown
from taxlt_mergekit.paper import catalog

_MEGABYTES_A_SECOND = 10  # a connection of 100 Mbit/s, less what it wastes


class Published(BaseModel):
    """The file, typed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    language: str
    language_megabytes: int
    languages: tuple[tuple[str, ...], ...]
    other_codes: dict[str, str]
    tasks: dict[str, str]
    task_megabytes: int


@dataclass(frozen=True)
class Wanted:
    """A vector that a benchmark's recipes name.

    Attributes:
        kind: `lang` or `task`, as folders of vectors are called.
        code: of the language, or the task vector's name.
        title: for people.
        source: id on the hub; None where none is published.
        megabytes: about, of the download.
    """

    kind: Literal["lang", "task"]
    code: str
    title: str
    source: str | None
    megabytes: int


@cache
def load() -> Published:
    """Read the packaged `published.yaml`."""
    text = files("taxlt_mergekit.sft").joinpath("published.yaml").read_text(encoding="utf-8")
    return Published.model_validate(yaml.safe_load(text))


def wanted(benchmark: str) -> list[Wanted]:
    """The vectors of a benchmark's recipes: task, source language, target languages."""
    known, entry = load(), catalog.load().benchmarks[benchmark]
    task = Wanted(
        "task", entry.task_vector, "the task", known.tasks.get(entry.task_vector), known.task_megabytes
    )
    languages = {entry.source: catalog.load().sources[entry.source]} | entry.languages
    return [
        task,
        *(
            Wanted("lang", code, title, _id(code), known.language_megabytes)
            for code, title in languages.items()
        ),
    ]


def table(entries: Sequence[Wanted], there: Sequence[Wanted]) -> str:
    """What exists, what does not, and what is on the disk already."""
    rows = [
        [
            entry.code,
            entry.title,
            entry.source or "none published",
            "already there" if entry in there else f"about {entry.megabytes} MB" if entry.source else "",
        ]
        for entry in entries
    ]
    return markdown.table(["vector", "of", "on the hub", "download"], rows, left=3)


def estimate(entries: Sequence[Wanted], checkpoint: int) -> str:
    """Size and time of a download, and what it becomes on the disk.

    Args:
        entries: to download.
        checkpoint: bytes of a whole one.
    """
    megabytes = sum(entry.megabytes for entry in entries)
    seconds = megabytes / _MEGABYTES_A_SECOND
    return (
        f"{len(entries)} files to download, about {megabytes:,} MB: {seconds:.0f} s at "
        f"{_MEGABYTES_A_SECOND} MB/s; written as whole checkpoints they take "
        f"{len(entries) * checkpoint / 1e9:,.1f} GB"
    )


def _id(code: str) -> str | None:
    known = load()
    if code in known.other_codes or any(code in group for group in known.languages):
        return known.language.format(code=known.other_codes.get(code, code))
    return None
