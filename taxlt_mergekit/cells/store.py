"""One scored cell of a grid is one JSON line of `cells.jsonl`; a killed run loses no finished line."""

from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeInt,
    model_validator,
)

from taxlt_mergekit.cells.lines import Part, Record, append_line, read_lines
from taxlt_mergekit.paper.catalog import Split

CELLS_FILE = "cells.jsonl"


class Groups(Part):
    """λ of all language vectors together, by group of tensors; null where the model has no such group.

    Attributes:
        embeddings: what lies outside the layers.
        lower, middle, upper: the layers, in thirds.
    """

    embeddings: FiniteFloat | None = None
    lower: FiniteFloat | None = None
    middle: FiniteFloat | None = None
    upper: FiniteFloat | None = None

    @property
    def by_name(self) -> dict[str, float]:
        """Those that are there."""
        return {name: float(weight) for name, weight in self if weight is not None}

    @property
    def text(self) -> str:
        """For a reader: `embeddings 0.9, lower 0.7, upper 1`."""
        return ", ".join(f"{name} {weight:g}" for name, weight in self.by_name.items())


class Parameters(Part):
    """What was varied; null where the variant does not use it.

    Attributes:
        source_weight: λ of the source-language vector, as the user wrote it: positive also where the variant
            subtracts the vector (equation 3).
        target_weight: λ of the target-language vector.
        density: share k of the language vectors' entries that is kept, 0 < k ≤ 1; null or 1 is dense.
        select: keep the largest (`top`) or the smallest (`bottom`) magnitudes.
        scope: one threshold over the whole vector (`global`) or one a tensor.
        groups: λ by group of tensors, in place of `source_weight` and `target_weight`.
    """

    source_weight: FiniteFloat | None = None
    target_weight: FiniteFloat | None = None
    density: float | None = Field(default=None, gt=0, le=1)
    select: Literal["top", "bottom"] | None = None
    scope: Literal["global", "tensor"] | None = None
    groups: Groups | None = None

    @property
    def dense(self) -> "Parameters":
        """The same λ on whole vectors."""
        return Parameters(
            source_weight=self.source_weight, target_weight=self.target_weight, groups=self.groups
        )

    @property
    def weight(self) -> float | None:
        """The one λ of the language vectors; None where there is none, or they have several."""
        weights = {self.source_weight, self.target_weight} - {None}
        return weights.pop() if len(weights) == 1 else None


class Documents(Part):
    """Label indices of every document, in the task's document order; both lists have the same length."""

    target: tuple[NonNegativeInt, ...] = Field(min_length=1)
    prediction: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _same_length(self) -> "Documents":
        if len(self.target) != len(self.prediction):
            raise ValueError(f"{len(self.target)} targets but {len(self.prediction)} predictions")
        return self


class Seconds(Part):
    """Wall-clock time of the cell's two parts; null where it was not measured."""

    merge: float | None = None
    evaluate: float | None = None


class Coverage(Part):
    """How many of a task's documents were scored, and how many it has; null where that is not known."""

    scored: NonNegativeInt
    total: NonNegativeInt | None

    @property
    def text(self) -> str:
        """For a reader: `20 of 60 documents`."""
        return f"{self.scored} of {'more' if self.total is None else self.total} documents"


class Cell(Record):
    """A model scored on one task.

    Attributes:
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

    recipe: str | None = None
    benchmark: str | None = None
    language: str | None = None
    variant: str
    model: str
    parameters: Parameters = Parameters()
    split: Split
    task: str
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    documents: Documents | None = None
    coverage: Coverage | None = None
    seed: int | None = None
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    seconds: Seconds = Seconds()
    versions: dict[str, str] = Field(default_factory=dict)

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
    """Add a cell to `<folder>/cells.jsonl`, as `lines.append_line` does."""
    append_line(Path(folder) / CELLS_FILE, cell)


def read_cells(folder: str | Path) -> list[Cell]:
    """All cells of `<folder>/cells.jsonl`, as `lines.read_lines` does; a folder without it has none."""
    return read_lines(Path(folder) / CELLS_FILE, Cell)
