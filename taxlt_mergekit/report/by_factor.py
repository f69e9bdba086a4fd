"""Tables 3 and 9: score by scaling factor, and the scaling factors that were chosen."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from taxlt_mergekit.cells.selection import Grid, complete
from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.tables import Figure, printed_factor, printed_score_at
from taxlt_mergekit.paper.variants import MODEL, table_name_of
from taxlt_mergekit.report import plots
from taxlt_mergekit.report.plots import CURVES
from taxlt_mergekit.report.study import Options, Study, all_variants, dense_part
from taxlt_mergekit.report.tables import (
    NOTHING,
    Block,
    Heading,
    Item,
    Number,
    Picture,
    Table,
    bullets,
    column_best,
    difference_row,
)
from taxlt_mergekit.report.wording import SPLITS, by_weight, code_label, holes, percent, slug, weight_label


def by_scaling_factor(of_model: Sequence[Study], options: Options) -> list[Block]:
    """For each variant the average over languages by λ and benchmark; for `per_language` by language too."""
    blocks: list[Block] = _picture(of_model, options)
    for variant in all_variants(of_model):
        grids = []
        for study in of_model:
            split = study.search_split(variant, sparse=False, wanted=options.split)
            scores = study.grid(variant, split, sparse=False) if split else {}
            if split and len(scores) > 1:
                grids.append((study, split, scores))
        if grids:
            blocks += _of_variant(variant, grids, options)
    return [Heading(3, "Score by scaling factor λ"), *blocks] if blocks else []


def _picture(of_model: Sequence[Study], options: Options) -> list[Block]:
    """A panel a benchmark, a curve a variant; none where no variant has two scaling factors."""
    panels = [panel for study in of_model if (panel := _panel(study, options))]
    if not panels:
        return []
    model = of_model[0].model
    title = "\n".join(filter(None, ("Score by scaling factor", model)))
    return [Picture(f"scaling_{slug(model)}", title, plots.SCALING_FACTOR, tuple(panels))]


def _panel(study: Study, options: Options) -> plots.Panel | None:
    """Averages over the languages on which every variant was scored."""
    splits: Sequence[Split] = (options.split,) if options.split else ("dev", "test")
    for split in splits:
        grids = {
            variant: {weight: row for p, row in scores.items() if (weight := p.weight) is not None}
            for variant in study.variants
            if len(scores := complete(study.averaged(study.grid(variant, split, sparse=False)))) > 1
        }
        grids = {variant: rows for variant, rows in grids.items() if len(rows) > 1}
        rows = [row for of_variant in grids.values() for row in of_variant.values()]
        languages = set.intersection(*map(set, rows)) if rows else set()
        if languages:
            break
    else:
        return None

    def mean(row: Mapping[str, float]) -> float:
        return 100 * fmean(row[language] for language in languages)

    styles = [*CURVES, *(variant for variant in grids if variant not in CURVES)]
    curves = tuple(
        plots.Curve(
            table_name_of(variant),
            styles.index(variant),
            tuple((weight, mean(of_variant[weight])) for weight in sorted(of_variant)),
        )
        for variant, of_variant in grids.items()
    )
    model = next(iter(study.grid(MODEL, split).values()), {})
    lines = {plots.MODEL: mean(model)} if languages <= model.keys() else {}
    title = f"{study.title} ({SPLITS[split]}, {len(languages)} language{'s' * (len(languages) > 1)})"
    return plots.Panel(title, f"average {study.unit}", curves, lines)


def _of_variant(variant: str, grids: Sequence[tuple[Study, Split, Grid]], options: Options) -> list[Block]:
    weights = sorted({parameters for _, _, scores in grids for parameters in scores}, key=by_weight)
    name = f"scaling_{slug(variant)}_{slug(grids[0][0].model)}"
    header = ["λ"]
    columns: list[Sequence[Item]] = [[weight_label(parameters) for parameters in weights]]
    notes: list[str] = []
    details: list[Block] = []
    for study, split, scores in grids:
        averaged = study.averaged(scores)
        full = complete(averaged)
        languages, _ = study.columns(full.values())
        ours = [percent(fmean(full[p].values())) if p in full else None for p in weights]
        header.append(f"{study.title} {study.unit}")
        columns.append(_marked(ours))
        notes.append(f"{study.title}, {SPLITS[split]}: mean over {study.extent(languages)}.")
        notes += [f"{study.title}: {text}." for text in holes(averaged, full)]
        figures = [_paper_figure(study, variant, parameters) for parameters in weights]
        if options.against_paper and split == "dev" and any(figures):
            theirs = [figure.value if figure else None for figure in figures]
            number = next(figure.table for figure in figures if figure)
            header += [f"paper, table {number}", "difference"]
            columns += [[Number(value) for value in theirs], difference_row(ours, theirs)]
        if options.per_language:
            text = f"{study.title} by language, {SPLITS[split]}:"
            details += [text, _by_language(study, scores, f"{name}_{study.stem}")]
    table = Table(name, tuple(header), tuple(zip(*columns, strict=True)))
    return [Heading(4, table_name_of(variant)), table, *bullets(notes), *details]


def _by_language(study: Study, scores: Grid, name: str) -> Table:
    inside, outside = study.columns(scores.values())
    weights = sorted(scores, key=by_weight)
    columns: list[Sequence[Item]] = [[weight_label(parameters) for parameters in weights]]
    columns += [_marked([percent(scores[p].get(column)) for p in weights]) for column in (*inside, *outside)]
    header = ("λ", *map(code_label, (*inside, *outside)))
    return Table(name, header, tuple(zip(*columns, strict=True)))


def _marked(values: Sequence[float | None]) -> list[Number]:
    return [Number(value, best=best) for value, best in zip(values, column_best(values), strict=True)]


def _paper_figure(study: Study, variant: str, parameters: Parameters) -> Figure | None:
    if study.benchmark is None or study.size is None or parameters.weight is None:
        return None
    return printed_score_at(study.benchmark, study.size, variant, parameters.weight)


def chosen_factors(of_model: Sequence[Study], options: Options) -> list[Block]:
    """The λ with the best validation score, by variant and benchmark, or by variant and language."""
    # One λ alone was not chosen.
    searched = [
        (study, [v for v in study.variants if len(study.grid(v, "dev", dense_part(v))) > 1])
        for study in of_model
    ]
    searched = [(study, variants) for study, variants in searched if variants]
    if not searched:
        return []
    if options.per_language:
        blocks: list[Block] = [Heading(3, "Scaling factors chosen for each language")]
        for study, variants in searched:
            blocks += [f"{study.title}:", _chosen_by_language(study, variants)]
        return blocks
    header = ["Method"]
    columns = []
    rows = [v for v in all_variants(of_model) if any(v in variants for _, variants in searched)]
    for study, variants in searched:
        header.append(study.title)
        chosen = (
            study.best(variant, dense_part(variant)) if variant in variants else None for variant in rows
        )
        columns.append([weight_label(best) if best else NOTHING for best in chosen])
        if options.against_paper and study.benchmark and study.size:
            figures = [printed_factor(study.benchmark, study.size, variant) for variant in rows]
            number = next((figure.table for figure in figures if figure), "9")
            header.append(f"paper, table {number}")
            columns.append([f"{figure.value:g}" if figure else NOTHING for figure in figures])
    labels = [table_name_of(variant) for variant in rows]
    table = Table(
        f"chosen_{slug(of_model[0].model)}", tuple(header), tuple(zip(labels, *columns, strict=True))
    )
    text = "λ with the best average validation score over a benchmark's languages:"
    notes = [note for study, variants in searched for note in _chosen_on_a_part(study, variants)]
    return [Heading(3, "Chosen scaling factors"), text, table, *bullets(notes)]


def _chosen_on_a_part(study: Study, variants: Sequence[str]) -> list[str]:
    """Variants whose λ was chosen on some of the benchmark's languages, those on the same ones together."""
    by_extent: dict[str, list[str]] = {}
    for variant in variants:
        languages = study.chosen_on(variant, dense_part(variant))
        if len(languages) < len(study.languages):
            by_extent.setdefault(study.extent(languages), []).append(table_name_of(variant))
    return [f"{study.title}: {', '.join(names)} on {extent}." for extent, names in by_extent.items()]


def _chosen_by_language(study: Study, variants: Sequence[str]) -> Table:
    inside, outside = study.columns(
        row for variant in variants for row in study.grid(variant, "dev", dense_part(variant)).values()
    )
    languages = [*inside, *outside]
    rows = []
    for variant in variants:
        chosen = study.choose(variant, dense_part(variant), languages, per_language=True)
        labels = (weight_label(chosen[code]) if code in chosen else NOTHING for code in languages)
        rows.append((table_name_of(variant), *labels))
    name = f"chosen_{study.stem}_{slug(study.model)}"
    return Table(name, ("Method", *map(code_label, languages)), tuple(rows))
