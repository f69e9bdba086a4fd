"""The paper's tables 2, 3, 4, 7, 8 and 9 as data (`tables.yaml`): each figure with its table."""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from taxlt_mergekit.paper.catalog import Size
from taxlt_mergekit.paper.variants import Baseline, VariantKey

Method = Literal[VariantKey, "model", Baseline]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Entry):
    """Scores in percent, in the order of the table's languages, and the average that the paper printed."""

    scores: tuple[float, ...]
    mean: float


class ScoreTable(_Entry):
    """Test scores of one benchmark by method and language (tables 2, 7 and 8)."""

    table: str
    benchmark: str
    model: Size
    languages: tuple[str, ...]
    rows: dict[Method, Row]


class MeanTable(_Entry):
    """Test scores averaged over languages, by method and benchmark (table 4)."""

    table: str
    model: Size
    rows: dict[Method, dict[str, float]]


class ScalingTable(_Entry):
    """Validation scores averaged over languages, by λ and benchmark (table 3)."""

    table: str
    model: Size
    variant: VariantKey
    rows: dict[float, dict[str, float]]


class FactorTable(_Entry):
    """The chosen λ by variant and benchmark (table 9)."""

    table: str
    model: Size
    rows: dict[VariantKey, dict[str, float]]


class Paper(_Entry):
    """All of `tables.yaml`."""

    scores: tuple[ScoreTable, ...]
    means: tuple[MeanTable, ...]
    scaling: tuple[ScalingTable, ...]
    scaling_factors: tuple[FactorTable, ...]


class Figure(_Entry):
    """A number of the paper and the number of the table that it stands in."""

    value: float
    table: str


@cache
def load() -> Paper:
    """Read the packaged `tables.yaml`."""
    text = files("taxlt_mergekit.paper").joinpath("tables.yaml").read_text(encoding="utf-8")
    return Paper.model_validate(yaml.safe_load(text))


def printed_score(benchmark: str, size: Size, method: str, language: str) -> Figure | None:
    """The paper's test score in percent (tables 2, 7, 8), or None where it has none."""
    for table, row in _score_rows(benchmark, size, method):
        if language in table.languages:
            return Figure(value=row.scores[table.languages.index(language)], table=table.table)
    return None


def printed_mean(benchmark: str, size: Size, method: str, languages: Iterable[str]) -> Figure | None:
    """The paper's average test score in percent over `languages`, or None where it has none.

    Over all of the table's languages this is the average that the paper printed; over some of them it is
    computed from the printed scores, so that a comparison is between the same languages.
    """
    languages = set(languages)
    for table, row in _score_rows(benchmark, size, method):
        if languages == set(table.languages):
            return Figure(value=row.mean, table=table.table)
        if languages and languages < set(table.languages):
            scores = [row.scores[table.languages.index(code)] for code in sorted(languages)]
            return Figure(value=sum(scores) / len(scores), table=table.table)
    return None


def _score_rows(benchmark: str, size: Size, method: str) -> Iterator[tuple[ScoreTable, Row]]:
    for table in load().scores:
        if (table.benchmark, table.model) == (benchmark, size):
            yield from ((table, row) for name, row in table.rows.items() if name == method)


def printed_score_at(benchmark: str, size: Size, variant: str, weight: float) -> Figure | None:
    """The paper's average validation score in percent at λ = `weight` (table 3), or None."""
    for table in load().scaling:
        if (table.model, table.variant) == (size, variant):
            for factor, row in table.rows.items():
                if abs(factor - weight) < 1e-9 and benchmark in row:
                    return Figure(value=row[benchmark], table=table.table)
    return None


def printed_factor(benchmark: str, size: Size, variant: str) -> Figure | None:
    """The λ that the paper chose (table 9), or None."""
    for table in load().scaling_factors:
        for name, row in table.rows.items():
            if (table.model, name) == (size, variant) and benchmark in row:
                return Figure(value=row[benchmark], table=table.table)
    return None
