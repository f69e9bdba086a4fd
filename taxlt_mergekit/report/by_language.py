"""Tables 2, 7 and 8: score by variant and language, and the paper's figures beside."""

from collections.abc import Mapping, Sequence

from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.tables import printed_mean, printed_score
from taxlt_mergekit.paper.variants import MODEL, TABLE_NAMES, table_name_of
from taxlt_mergekit.report.differences import differences
from taxlt_mergekit.report.study import Line, Options, Study, dense_part
from taxlt_mergekit.report.tables import (
    Block,
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
    seeds_label,
    slug,
    weight_label,
    weight_labels,
)


def by_language(study: Study, options: Options) -> list[Block]:
    """Scores of MODEL and of each variant at its chosen λ, differences, and the paper's figures."""
    split: Split = options.split or ("test" if "test" in study.splits else "dev")
    notes: list[str] = []
    lines = chosen_rows(study, split, options, notes)
    inside, outside = study.columns(line.scores for line in lines)
    name = f"{study.stem}_{slug(study.model)}_{split}"
    blocks: list[Block] = [Heading(3, f"{study.title}: {study.unit}, {SPLITS[split]}")]
    seeds = _seeds(study, lines)
    if lines:
        blocks.append(_score_table(f"scores_{name}", lines, inside, outside, comparable=not seeds))
    said = (*_choices(lines), *seeds, *_extent(study, inside), *_missing(lines, inside))
    blocks += bullets([*said, *notes])
    for variant in options.baselines:
        # Of a variant that is sparse too, the dense row, which comes first.
        baseline = next((line for line in lines if line.variant == variant), None)
        if baseline is not None:
            table = f"differences_{'' if variant == MODEL else f'{slug(variant)}_'}{name}"
            blocks += differences(study, baseline, lines, (inside, outside), table, options)
    if options.against_paper:
        blocks += _against_paper(study, split, lines, inside, f"paper_{name}")
    return blocks if len(blocks) > 1 else []


def chosen_rows(study: Study, split: Split, options: Options, notes: list[str]) -> list[Line]:
    """MODEL and each variant at its chosen λ; what is left out, and why, is added to `notes`."""
    return [
        line
        for variant in study.variants
        for sparse in ((None,) if dense_part(variant) is None else (False, True))
        if (line := _line(study, variant, split, sparse, options, notes))
    ]


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
    return Line(variant, split, label, {column: chosen[column] for column in scores}, scores)


def _score_table(
    name: str, lines: Sequence[Line], inside: Sequence[str], outside: Sequence[str], comparable: bool
) -> Table:
    """The best of each column in bold, where all are over the same seeds."""
    rows = [
        [*percents(line.scores, inside), percent(line.mean(inside)), *percents(line.scores, outside)]
        for line in lines
    ]
    best = zip(*(column_best(column) for column in zip(*rows, strict=True)), strict=True)
    return Table(
        name,
        ("Method", *map(code_label, inside), "mean", *(f"({code_label(column)})" for column in outside)),
        tuple(
            (
                line.label,
                *(Number(value, best=mark and comparable) for value, mark in zip(row, marks, strict=True)),
            )
            for line, row, marks in zip(lines, rows, best, strict=True)
        ),
    )


def _choices(lines: Sequence[Line]) -> list[str]:
    parts = []
    for line in lines:
        labels = {column: weight_label(parameters) for column, parameters in line.parameters.items()}
        if any(labels.values()):
            parts.append(f"{line.label} {_by_column(labels)}")
    return [f"λ: {'; '.join(parts)}."] if parts else []


def _seeds(study: Study, lines: Sequence[Line]) -> list[str]:
    """Said where rows, or languages of a row, are averages over different training seeds."""
    parts = {}
    for line in lines:
        cells = study.behind(line)
        labels = {column: seeds_label(cells[column]) for column in line.scores}
        if all(labels.values()):
            parts[line.label] = _by_column(labels)
    if len(set(parts.values())) < 2 and not any(", " in text for text in parts.values()):
        return []
    return [f"Scores are means over {'; '.join(map(': '.join, parts.items()))}; so none is in bold."]


def _by_column(texts: Mapping[str, str]) -> str:
    """One text where all columns have the same, else each with its column."""
    distinct = dict.fromkeys(texts.values())
    return next(iter(distinct)) if len(distinct) == 1 else ", ".join(map(" ".join, texts.items()))


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
