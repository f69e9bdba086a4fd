"""What a model says of documents whose labels are not read: a line of JSON of `unlabelled.jsonl` each."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from taxlt_mergekit.cells.lines import Record, append_line, read_lines
from taxlt_mergekit.cells.store import Parameters

UNLABELLED_FILE = "unlabelled.jsonl"

# Four decimals: a hundredth of a percent of a probability, and a third of the file.
LogProbability = Annotated[float, Field(le=0), AfterValidator(lambda value: max(round(value, 4), -99.0))]


class Unlabelled(Record):
    """One point of a grid on one set of documents.

    Attributes:
        key: content hash, as a cell's, of the point's recipe, its checkpoints and the documents' source.
        recipe, variant, parameters, seed: as a cell's.
        task: where the documents come from: an lm-eval task, or a file of text.
        log_probabilities: of every class for every document, (documents, classes), in the documents' order.
        status: `failed` lines have a `reason`, and count as not done.
    """

    recipe: str
    variant: str
    parameters: Parameters = Parameters()
    task: str
    seed: int | None = None
    log_probabilities: tuple[tuple[LogProbability, ...], ...] = ()
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None

    @model_validator(mode="after")
    def _rectangular(self) -> "Unlabelled":
        if len({len(row) for row in self.log_probabilities}) > 1:
            raise ValueError("not the same number of classes for every document")
        if (self.status == "failed") != (self.reason is not None):
            raise ValueError("a failed line has a reason, and only a failed line has one")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the documents that each class is predicted for; ties go to the first class."""
        rows, classes = self.log_probabilities, len(self.log_probabilities[0])
        counts = [0] * classes
        for row in rows:
            counts[row.index(max(row))] += 1
        return tuple(count / len(rows) for count in counts)


def normalised(scores: tuple[float, ...]) -> tuple[float, ...]:
    """Log-likelihoods of a document's choices as log-probabilities that add up to 1."""
    top = max(scores)
    total = top + math.log(sum(math.exp(score - top) for score in scores))
    return tuple(min(0.0, score - total) for score in scores)


def append_unlabelled(folder: str | Path, line: Unlabelled) -> None:
    """Add a line to `<folder>/unlabelled.jsonl`, as `lines.append_line` does."""
    append_line(Path(folder) / UNLABELLED_FILE, line)


def read_unlabelled(folder: str | Path) -> list[Unlabelled]:
    """All lines of `<folder>/unlabelled.jsonl`; a folder without it has none."""
    return read_lines(Path(folder) / UNLABELLED_FILE, Unlabelled)
