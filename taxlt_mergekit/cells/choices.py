"""Which point each criterion chose, and by what curve: a line of JSON of `choices.jsonl` each."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import FiniteFloat

from taxlt_mergekit.cells.lines import Part, Record, append_line, read_lines
from taxlt_mergekit.cells.store import Parameters

CHOICES_FILE = "choices.jsonl"


class Rated(Part):
    """A point and what a criterion gives it; higher is better."""

    parameters: Parameters
    value: FiniteFloat


class Choice(Record):
    """One criterion's choice for one recipe.

    Attributes:
        recipe, benchmark, language, variant, model, seed: as a cell's.
        criterion: its name, of `criteria.table` or any other.
        parameters: the chosen point.
        curve: every point that it chose from.
        documents: where the documents come from whose predictions it read, or null.
    """

    recipe: str
    benchmark: str | None = None
    language: str | None = None
    variant: str
    model: str
    seed: int | None = None
    criterion: str
    parameters: Parameters
    curve: tuple[Rated, ...] = ()
    documents: str | None = None


def append_choices(folder: str | Path, choices: Iterable[Choice]) -> None:
    """Add choices to `<folder>/choices.jsonl`, those that do not stand there yet."""
    known = {choice.key: choice for choice in read_choices(folder)}
    for choice in choices:
        if known.get(choice.key) != choice:
            append_line(Path(folder) / CHOICES_FILE, choice)


def read_choices(folder: str | Path) -> list[Choice]:
    """All choices of `<folder>/choices.jsonl`; a folder without it has none."""
    return read_lines(Path(folder) / CHOICES_FILE, Choice)


def choices_below(paths: Iterable[Path]) -> list[Choice]:
    """The choices of all sweeps below some folders."""
    folders = [path if path.is_dir() else path.parent for path in paths]
    files = dict.fromkeys(file for folder in folders for file in sorted(folder.rglob(CHOICES_FILE)))
    return [choice for file in files for choice in read_choices(file.parent)]
