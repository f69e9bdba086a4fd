"""What each row of a table by language gains over one of them, with paired bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import numpy as np

from taxlt_mergekit.cells.selection import documents_in
from taxlt_mergekit.cells.store import Cell, Documents
from taxlt_mergekit.report import bootstrap
from taxlt_mergekit.report.study import Line, Options, Study
from taxlt_mergekit.report.tables import Block, Difference, Item, Number, Table, bullets
from taxlt_mergekit.report.wording import code_label, seeds_label

Seed = int | None
# Language -> training seed -> cell, or its documents
Cells = Mapping[str, Mapping[Seed, Cell]]
Runs = dict[str, dict[Seed, Documents]]
# Language -> the seeds that two rows share, where one of them has more
Narrowed = Mapping[str, frozenset[Seed]]
T = TypeVar("T")


def differences(
    study: Study,
    baseline: Line,
    lines: Sequence[Line],
    columns: tuple[Sequence[str], Sequence[str]],
    name: str,
    options: Options,
) -> list[Block]:
    """Scores less the baseline's, in points, and what is to be said of them.

    Two rows are compared in each language over the training seeds that both have.

    Args:
        columns: the languages of the mean, and those outside it.
        name: of the table.
    """
    inside, outside = columns
    notes: list[str] = []
    of_baseline = study.behind(baseline)
    runs_of_baseline = _runs(study, baseline.label, of_baseline, notes)
    compared = [
        _compared(study, line, baseline, of_baseline, runs_of_baseline, notes)
        for line in lines
        if line is not baseline
    ]
    if not compared:
        return []
    draws = _draws(compared, runs_of_baseline, study.metric, options)
    rows: list[tuple[Item, ...]] = [
        (
            code_label(column) or "mean",
            *(one.difference([column] if column else inside, draws[one.label]) for one in compared),
        )
        for column in (*inside, "", *outside)
    ]
    header: tuple[str, ...] = ("Language", *(one.label for one in compared))
    if len(compared) > len(rows):  # the longer side goes down: twenty methods side by side cannot be read
        names, *items = zip(*rows, strict=True)
        rows = [(label, *of_label) for label, of_label in zip(header[1:], items, strict=True)]
        header = ("Method", *map(str, names))
    if any(draws.values()):
        seeds = any(len(by_seed) > 1 for one in compared for by_seed in one.runs.values())
        notes.insert(
            0,
            f"95 % intervals: paired bootstrap over documents{' and training seeds' if seeds else ''}, "
            f"{options.resamples} resamples, seed {options.seed}. "
            r"\* marks an interval that excludes zero; intervals are not corrected for their number.",
        )
    return [
        f"Differences against {baseline.label}, in points:",
        Table(name, header, tuple(rows)),
        *bullets(notes),
    ]


@dataclass(frozen=True)
class Compared:
    """A row beside the baseline.

    Attributes:
        scores: language -> the row's and the baseline's, 0..1; none where they are of other documents.
        runs: the row's documents, in the languages that an interval can be had of.
        narrowed: where they are compared over fewer seeds than one of them has.
    """

    label: str
    scores: Mapping[str, tuple[float, float]]
    runs: Runs
    narrowed: Narrowed

    def difference(self, columns: Sequence[str], draws: Mapping[str, bootstrap.Array]) -> Item:
        """Of the means over languages, in points; none where a language is missing.

        Args:
            draws: language -> (resamples,) differences, −1..1.
        """
        if not columns or any(column not in self.scores for column in columns):
            return Number(None)
        ours, theirs = zip(*(self.scores[column] for column in columns), strict=True)
        ends: tuple[float, ...] = ()
        if all(column in draws for column in columns):
            drawn = np.mean([draws[column] for column in columns], axis=0)
            ends = tuple(100 * end for end in bootstrap.interval(drawn))
        return Difference(100 * (fmean(ours) - fmean(theirs)), *ends)


def _compared(
    study: Study, line: Line, baseline: Line, of_baseline: Cells, runs_of_baseline: Runs, notes: list[str]
) -> Compared:
    of_line = study.behind(line)
    columns = [column for column in line.scores if column in of_baseline]
    narrowed = {
        column: seeds for column in columns if (seeds := _fewer(of_line[column], of_baseline[column]))
    }
    ours, theirs = _narrowed(of_line, narrowed), _narrowed(of_baseline, narrowed)
    scores = {column: (line.scores[column], baseline.scores[column]) for column in columns}
    for column in narrowed:
        scores[column] = (_mean(study, ours[column]), _mean(study, theirs[column]))
    runs, reference = _runs(study, line.label, ours, notes), _narrowed(runs_of_baseline, narrowed)
    for column in columns:
        against = f"{line.label} on {column}: other documents than {baseline.label}'s."
        counts = {documents_in(cell) for by in (ours, theirs) for cell in by[column].values()} - {None}
        if len(counts) > 1:
            del scores[column]
        both = (runs.get(column, {}), reference.get(column, {}))
        if len({documents.target for by_seed in both for documents in by_seed.values()}) > 1:
            runs.pop(column, None)
            nor = " And no difference, as their number is another." * (column not in scores)
            notes.append(f"No interval for {against}{nor}")
        elif column not in scores:
            notes.append(f"No difference for {against}")
    for seeds in dict.fromkeys(narrowed.values()):
        names = ", ".join(column for column in narrowed if narrowed[column] == seeds)
        notes.append(f"{line.label} on {names}: over {seeds_label(seeds)} alone, which both have.")
    return Compared(line.label, scores, runs, narrowed)


def _fewer(ours: Mapping[Seed, Cell], theirs: Mapping[Seed, Cell]) -> frozenset[Seed]:
    """The seeds that both have, where one of them has more.

    None where they share no seed, as lm-eval's own results name none: then all of one stand against all of
    the other.
    """
    both = ours.keys() & theirs.keys()
    return frozenset(both if both != ours.keys() | theirs.keys() else ())


def _narrowed(found: Mapping[str, Mapping[Seed, T]], narrowed: Narrowed) -> dict[str, dict[Seed, T]]:
    return {
        column: {seed: of_seed for seed, of_seed in by_seed.items() if seed in narrowed.get(column, by_seed)}
        for column, by_seed in found.items()
    }


def _mean(study: Study, cells: Mapping[Seed, Cell]) -> float:
    return fmean(cell.metrics[study.metric] for cell in cells.values())


def _draws(
    compared: Sequence[Compared], of_baseline: Runs, metric: str, options: Options
) -> dict[str, dict[str, bootstrap.Array]]:
    """Label -> language -> differences; the same draws where rows and baseline share the same seeds."""
    together: dict[frozenset, list[Compared]] = {}
    for one in compared:
        together.setdefault(frozenset(one.narrowed.items()), []).append(one)
    found: dict[str, dict[str, bootstrap.Array]] = {}
    for rows in together.values():
        found |= bootstrap.resampled_differences(
            _narrowed(of_baseline, rows[0].narrowed),
            {one.label: one.runs for one in rows},
            metric,
            options.resamples,
            options.seed,
        )
    return found


def _runs(study: Study, label: str, cells: Cells, notes: list[str]) -> Runs:
    """The documents behind a row, by language and seed, where they give the score that is shown."""
    dropped: dict[str, str] = {}
    for column, by_seed in cells.items():
        for cell in by_seed.values():
            if study.metric not in bootstrap.METRICS:
                dropped[column] = f"no bootstrap of {study.metric}"
            elif cell.documents is None:
                dropped[column] = "labels by document are missing"
            elif abs(bootstrap.score(cell.documents, study.metric) - cell.metrics[study.metric]) > 1e-6:
                dropped[column] = "labels by document give another score"
    for reason in dict.fromkeys(dropped.values()):
        columns = ", ".join(column for column, why in dropped.items() if why == reason)
        notes.append(f"No interval for {label} on {columns}: {reason}.")
    return {
        column: {seed: cell.documents for seed, cell in by_seed.items() if cell.documents is not None}
        for column, by_seed in cells.items()
        if column not in dropped
    }
