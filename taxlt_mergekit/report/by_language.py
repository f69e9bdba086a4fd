"""Tables 2, 7 and 8: score by variant and language, differences against MODEL, and the paper's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from taxlt_mergekit.cells.selection import column_of, documents_in
from taxlt_mergekit.cells.store import Documents, Parameters
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.tables import printed_mean, printed_score
from taxlt_mergekit.paper.variants import MODEL, TABLE_NAMES, table_name_of
from taxlt_mergekit.report import bootstrap
from taxlt_mergekit.report.study import Options, Study, dense_part
from taxlt_mergekit.report.tables import (
    Block,
    Difference,
    Heading,
    Item,
    Number,
    Table,
    bullets,
    column_best,
    difference_row,
)
from taxlt_mergekit.report.wording import (
    SPLITS,
    code_label,
    percent,
    percents,
    slug,
    weight_label,
    weight_labels,
)


@dataclass(frozen=True)
class Line:
    """A row: a variant at the parameters that were chosen for each language, scores 0..1."""

    variant: str
    label: str
    parameters: Mapping[str, Parameters]
    scores: Mapping[str, float]

    def mean(self, columns: Sequence[str]) -> float | None:
        """None where a language is missing: the mean over fewer does not compare."""
        if not columns or any(column not in self.scores for column in columns):
            return None
        return fmean(self.scores[column] for column in columns)


def by_language(study: Study, options: Options) -> list[Block]:
    """Scores of MODEL and of each variant at its chosen λ, differences, and the paper's figures."""
    split: Split = options.split or ("test" if "test" in study.splits else "dev")
    notes: list[str] = []
    lines = [
        line
        for variant in study.variants
        for sparse in ((None,) if dense_part(variant) is None else (False, True))
        if (line := _line(study, variant, split, sparse, options, notes))
    ]
    inside, outside = study.columns(line.scores for line in lines)
    name = f"{study.stem}_{slug(study.model)}_{split}"
    blocks: list[Block] = [Heading(3, f"{study.title}: {study.unit}, {SPLITS[split]}")]
    if lines:
        blocks.append(_score_table(f"scores_{name}", lines, inside, outside))
    blocks += bullets([*_choices(lines), *_extent(study, inside), *_missing(lines, inside), *notes])
    for variant in options.baselines:
        # Of a variant that is sparse too, the dense row, which comes first.
        baseline = next((line for line in lines if line.variant == variant), None)
        if baseline is not None:
            table = f"differences_{'' if variant == MODEL else f'{slug(variant)}_'}{name}"
            blocks += _differences(study, split, baseline, lines, inside, outside, table, options)
    if options.against_paper:
        blocks += _against_paper(study, split, lines, inside, f"paper_{name}")
    return blocks if len(blocks) > 1 else []


def _line(
    study: Study, variant: str, split: Split, sparse: bool | None, options: Options, notes: list[str]
) -> Line | None:
    shown = study.grid(variant, split, sparse)
    dense_shown = bool(study.grid(variant, split, sparse=False))
    if not shown or (sparse and split == "dev" and dense_shown):
        # Densities on validation data are a search: they stand in the tables by density.
        return None
    label = table_name_of(variant) + (", sparse" if sparse and dense_shown else "")
    inside, outside = study.columns(shown.values())
    columns = [*inside, *outside]
    chosen = study.choose(variant, sparse, columns, options.per_language)
    if not chosen:
        if len(shown) > 1:
            notes.append(
                f"{label} is left out: no validation scores choose between λ {weight_labels(shown)}."
            )
            return None
        chosen = dict.fromkeys(columns, next(iter(shown)))
    elif not any(parameters in shown for parameters in chosen.values()):
        picked = weight_labels(set(chosen.values()))
        if list(shown) != [Parameters()]:
            notes.append(
                f"{label} is left out: λ {picked} was chosen, but {SPLITS[split]} scores are of "
                f"λ {weight_labels(shown)}."
            )
            return None
        notes.append(f"{label}: λ {picked} was chosen; of the model that was evaluated λ is not known.")
        chosen = dict.fromkeys(columns, Parameters())
    scores = {
        column: shown[parameters][column]
        for column, parameters in chosen.items()
        if column in shown.get(parameters, {})
    }
    untested = [f"{column} {weight_label(chosen[column])}" for column in chosen if column not in scores]
    if untested:
        notes.append(f"{label}: no {SPLITS[split]} scores at the chosen λ of {', '.join(untested)}.")
    return Line(variant, label, {column: chosen[column] for column in scores}, scores)


def _score_table(name: str, lines: Sequence[Line], inside: Sequence[str], outside: Sequence[str]) -> Table:
    rows = [
        [*percents(line.scores, inside), percent(line.mean(inside)), *percents(line.scores, outside)]
        for line in lines
    ]
    best = zip(*(column_best(column) for column in zip(*rows, strict=True)), strict=True)
    return Table(
        name,
        ("Method", *map(code_label, inside), "mean", *(f"({code_label(column)})" for column in outside)),
        tuple(
            (line.label, *(Number(value, best=mark) for value, mark in zip(row, marks, strict=True)))
            for line, row, marks in zip(lines, rows, best, strict=True)
        ),
    )


def _choices(lines: Sequence[Line]) -> list[str]:
    parts = []
    for line in lines:
        labels = {column: weight_label(parameters) for column, parameters in line.parameters.items()}
        distinct = set(labels.values())
        if len(distinct) > 1:
            parts.append(f"{line.label} " + ", ".join(f"{code} {label}" for code, label in labels.items()))
        elif distinct != {""}:
            parts.append(f"{line.label} {distinct.pop()}")
    return [f"λ: {'; '.join(parts)}."] if parts else []


def _extent(study: Study, inside: Sequence[str]) -> list[str]:
    """Said where the mean is not over all of the benchmark's languages."""
    is_part = inside and len(inside) < len(study.languages)
    return [f"The mean is over {study.extent(inside)}."] if is_part else []


def _missing(lines: Sequence[Line], inside: Sequence[str]) -> list[str]:
    absent = {line.label: [column for column in inside if column not in line.scores] for line in lines}
    texts = [f"{label} has no mean: {', '.join(gone)} missing." for label, gone in absent.items() if gone]
    if texts:
        texts[-1] += " taxlt sweep with their recipes, or lm_eval with their tasks, scores them."
    return texts


def _differences(
    study: Study,
    split: Split,
    baseline: Line,
    lines: Sequence[Line],
    inside: Sequence[str],
    outside: Sequence[str],
    name: str,
    options: Options,
) -> list[Block]:
    others = [line for line in lines if line is not baseline]
    if not others:
        return []
    notes: list[str] = []
    of_baseline = _runs(study, split, baseline, notes)
    runs = {}
    incomparable: dict[str, set[str]] = {}
    for line in others:
        runs[line.label] = _runs(study, split, line, notes)
        incomparable[line.label] = _of_other_data(study, split, line, baseline)
        for column in sorted(incomparable[line.label] - runs[line.label].keys()):
            notes.append(
                f"No difference for {line.label} on {column}: other documents than {baseline.label}'s."
            )
        for column in list(runs[line.label]):
            both = (runs[line.label][column], of_baseline.get(column, {}))
            if len({documents.target for by_seed in both for documents in by_seed.values()}) > 1:
                del runs[line.label][column]
                nor = " And no difference, as their number is another." * (column in incomparable[line.label])
                notes.append(
                    f"No interval for {line.label} on {column}: other documents than {baseline.label}'s.{nor}"
                )
    draws = bootstrap.resampled_differences(of_baseline, runs, study.metric, options.resamples, options.seed)
    rows: list[tuple[Item, ...]] = []
    for column in (*inside, "", *outside):
        row: list[Item] = [code_label(column) or "mean"]
        for line in others:
            ours = line.scores.get(column) if column else line.mean(inside)
            reference = baseline.scores.get(column) if column else baseline.mean(inside)
            wanted = [column] if column else list(inside)
            if ours is None or reference is None or incomparable[line.label] & set(wanted):
                row.append(Number(None))
                continue
            ends: tuple[float, ...] = ()
            if all(code in draws[line.label] for code in wanted):
                drawn = np.mean([draws[line.label][code] for code in wanted], axis=0)
                ends = tuple(100 * end for end in bootstrap.interval(drawn))
            row.append(Difference(100 * (ours - reference), *ends))
        rows.append(tuple(row))
    header: tuple[str, ...] = ("Language", *(line.label for line in others))
    if len(others) > len(rows):  # the longer side goes down: twenty methods side by side cannot be read
        turned = zip(*rows, strict=True)
        header = ("Method", *map(str, next(turned)))
        rows = [(label, *items) for label, items in zip((line.label for line in others), turned, strict=True)]
    blocks: list[Block] = [
        f"Differences against {baseline.label}, in points:",
        Table(name, header, tuple(rows)),
    ]
    if any(draws.values()):
        seeds = any(len(by_seed) > 1 for of_line in runs.values() for by_seed in of_line.values())
        notes.insert(
            0,
            f"95 % intervals: paired bootstrap over documents{' and training seeds' if seeds else ''}, "
            f"{options.resamples} resamples, seed {options.seed}. "
            r"\* marks an interval that excludes zero; intervals are not corrected for their number.",
        )
    return [*blocks, *bullets(notes)]


def _of_other_data(study: Study, split: Split, line: Line, baseline: Line) -> set[str]:
    """Languages on which two variants were scored on another number of documents."""
    counts: dict[str, set[int]] = {}
    for cell in study.cells:
        for shown in (line, baseline):
            column, count = column_of(cell), documents_in(cell)
            is_shown = (cell.variant, cell.split) == (shown.variant, split) and column in shown.scores
            if is_shown and cell.parameters == shown.parameters[column] and count is not None:
                counts.setdefault(column, set()).add(count)
    return {column for column, found in counts.items() if len(found) > 1}


def _runs(study: Study, split: Split, line: Line, notes: list[str]) -> dict[str, dict[int | None, Documents]]:
    """The documents behind a row, by language and seed, where they give the score that is shown."""
    runs: dict[str, dict[int | None, Documents]] = {}
    dropped: dict[str, str] = {}
    for cell in study.cells:
        column = column_of(cell)
        if (
            (cell.variant, cell.split) != (line.variant, split)
            or column not in line.scores
            or cell.parameters != line.parameters[column]
        ):
            continue
        if study.metric not in bootstrap.METRICS:
            dropped[column] = f"no bootstrap of {study.metric}"
        elif cell.documents is None:
            dropped[column] = "labels by document are missing"
        elif abs(bootstrap.score(cell.documents, study.metric) - cell.metrics[study.metric]) > 1e-6:
            dropped[column] = "labels by document give another score"
        else:
            runs.setdefault(column, {})[cell.seed] = cell.documents
    for reason in dict.fromkeys(dropped.values()):
        columns = ", ".join(column for column, why in dropped.items() if why == reason)
        notes.append(f"No interval for {line.label} on {columns}: {reason}.")
    return {column: by_seed for column, by_seed in runs.items() if column not in dropped}


def _against_paper(
    study: Study, split: Split, lines: Sequence[Line], inside: Sequence[str], name: str
) -> list[Block]:
    if study.benchmark is None or study.size is None:
        return [f"The paper has no figures for this benchmark and θ₀ ({study.model or 'not known'})."]
    if split != "test":
        return [f"The paper's tables 2, 7 and 8 are test scores: none to set beside {SPLITS[split]} scores."]
    rows: list[tuple[Item, ...]] = []
    numbers = set()
    for line in lines:
        if line.label not in TABLE_NAMES.values():
            continue
        figures = [printed_score(study.benchmark, study.size, line.variant, column) for column in inside]
        figures.append(printed_mean(study.benchmark, study.size, line.variant, inside))
        if not any(figures):
            continue
        numbers |= {figure.table for figure in figures if figure}
        ours = [*percents(line.scores, inside), percent(line.mean(inside))]
        theirs = [figure.value if figure else None for figure in figures]
        rows.append((line.label, "ours", *map(Number, ours)))
        rows.append(("", "paper", *map(Number, theirs)))
        rows.append(("", "difference", *difference_row(ours, theirs)))
    if not rows:
        return [f"The paper has no figures for {study.title} with {study.model}."]
    text = f"Beside the paper's table {', '.join(sorted(numbers))}, in percent and points"
    languages = catalog.load().benchmarks[study.benchmark].languages
    if set(inside) != set(languages):
        text += f" (its means here are over the same {len(inside)} of its {len(languages)} languages)"
    return [f"{text}:", Table(name, ("Method", "", *map(code_label, inside), "mean"), tuple(rows))]
