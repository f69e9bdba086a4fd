"""One scored cell of a grid is one JSON line of `cells.jsonl`; a killed run loses no finished line."""

import codecs
import json
import os
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.paper.catalog import Split

FORMAT = 1
CELLS_FILE = "cells.jsonl"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameters(_Part):
    """What was varied; null where the variant does not use it.

    Attributes:
        source_weight: λ of the source-language vector, as the user wrote it: positive also where the variant
            subtracts the vector (equation 3).
        target_weight: λ of the target-language vector.
        density: share k of the language vectors' entries that is kept, 0 < k ≤ 1; null or 1 is dense.
        select: keep the largest (`top`) or the smallest (`bottom`) magnitudes.
        scope: one threshold over the whole vector (`global`) or one a tensor.
    """

    source_weight: FiniteFloat | None = None
    target_weight: FiniteFloat | None = None
    density: float | None = Field(default=None, gt=0, le=1)
    select: Literal["top", "bottom"] | None = None
    scope: Literal["global", "tensor"] | None = None

    @property
    def dense(self) -> "Parameters":
        """The same λ on whole vectors."""
        return Parameters(source_weight=self.source_weight, target_weight=self.target_weight)

    @property
    def weight(self) -> float | None:
        """The one λ of the language vectors; None where there is none, or they have several."""
        weights = {self.source_weight, self.target_weight} - {None}
        return weights.pop() if len(weights) == 1 else None


class Documents(_Part):
    """Label indices of every document, in the task's document order; both lists have the same length."""

    target: tuple[NonNegativeInt, ...] = Field(min_length=1)
    prediction: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _same_length(self) -> "Documents":
        if len(self.target) != len(self.prediction):
            raise ValueError(f"{len(self.target)} targets but {len(self.prediction)} predictions")
        return self


class Seconds(_Part):
    """Wall-clock time of the cell's two parts; null where it was not measured."""

    merge: float | None = None
    evaluate: float | None = None


class Coverage(_Part):
    """How many of a task's documents were scored, and how many it has; null where that is not known."""

    scored: NonNegativeInt
    total: NonNegativeInt | None

    @property
    def text(self) -> str:
        """For a reader: `20 of 60 documents`."""
        return f"{self.scored} of {'more' if self.total is None else self.total} documents"


class Cell(_Part):
    """A model scored on one task.

    Attributes:
        format: version of this layout.
        key: content hash that identifies the cell (recipe after parameters, checkpoints, task).
        recipe: path of the recipe as given; null for a model that was evaluated by hand.
        benchmark: key of the catalog's benchmark, or null.
        language: language code, or null.
        variant: `model`, a variant of the paper, or any other name.
        model: θ₀ as the recipe names it, or the evaluated model.
        parameters: the grid's coordinates.
        split: the split that the task scores.
        task: name of the lm-eval task.
        metrics: lm-eval's metrics without filter suffix, with `<metric>_stderr`; scores are 0..1.
        documents: per-document labels for the paired bootstrap, or null.
        coverage: how many of the task's documents were scored; null where older results do not tell.
        seed: seed of the training run that the vectors come from, or null.
        status: `failed` cells have a `reason`, and count as not done.
        seconds, versions: time taken and package versions; not part of the cell's identity.
    """

    format: Literal[1] = 1
    key: str
    recipe: str | None = None
    benchmark: str | None = None
    language: str | None = None
    variant: str
    model: str
    parameters: Parameters = Parameters()
    split: Split
    task: str
    metrics: dict[str, FiniteFloat] = {}
    documents: Documents | None = None
    coverage: Coverage | None = None
    seed: int | None = None
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    seconds: Seconds = Seconds()
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _failed_with_reason(self) -> "Cell":
        if (self.status == "failed") != (self.reason is not None):
            raise ValueError("a failed cell has a reason, and only a failed cell has one")
        return self

    @property
    def is_part(self) -> bool:
        """Whether only a part of the task's documents was scored: no score to compare with others."""
        return self.coverage is not None and self.coverage.scored != self.coverage.total


def append_cell(folder: str | Path, cell: Cell) -> None:
    """Add a cell to `<folder>/cells.jsonl` and wait until it is on the disk.

    The line goes out in one write at the end of the file. What an earlier, killed run left of an unfinished
    line is cut off first, and what a full disk took of this one after it: every line but possibly the last is
    whole.

    Raises:
        UserError: the folder or the file cannot be written.
    """
    path = Path(folder) / CELLS_FILE
    line = (cell.model_dump_json() + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            _cut_torn_line(file.fileno())
            try:
                written = 0
                while written < len(line):
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                _cut_torn_line(file.fileno())
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _cut_torn_line(descriptor: int) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    keep, block = end, 1 << 16
    while keep:
        start = max(0, keep - block)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep < end:
        os.ftruncate(descriptor, keep)


def read_cells(folder: str | Path) -> list[Cell]:
    """All cells of `<folder>/cells.jsonl`, the last one of each key, in the order of their first appearance.

    A last line without its line end is what a kill leaves: it is dropped. A folder without the file has no
    cells.

    Raises:
        UserError: another format version, or a line that is not a cell; names the file and the line.
    """
    path = Path(folder) / CELLS_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: is UTF-16 text; save it as UTF-8, as taxlt wrote it")
    lines = text.removeprefix(codecs.BOM_UTF8).split(b"\n")[:-1]
    cells: dict[str, Cell] = {}
    for number, line in enumerate(lines, start=1):
        cell = _parse(line, f"{path}, line {number}")
        cells[cell.key] = cell
    return list(cells.values())


def _parse(line: bytes, where: str) -> Cell:
    try:
        row = json.loads(line)
    except ValueError:
        raise UserError(f"{where}: not a line of JSON; remove it, and its cell is run again") from None
    version = row.get("format") if isinstance(row, dict) else None
    if version != FORMAT:
        raise UserError(
            f"{where}: results of format {version!r}, but this version reads format {FORMAT}; "
            "use another output folder, or the version that wrote it"
        )
    try:
        return Cell.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "cell"
        raise UserError(f"{where}: {field}: {first['msg']}") from None
