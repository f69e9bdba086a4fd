"""Results arranged like the paper's tables and figures, as Markdown, CSV, PNG and SVG."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from taxlt_mergekit.cells.choices import Choice
from taxlt_mergekit.cells.selection import column_of, metric_of
from taxlt_mergekit.cells.store import Cell
from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.paper.variants import table_name_of
from taxlt_mergekit.report import plots
from taxlt_mergekit.report.by_density import by_density
from taxlt_mergekit.report.by_factor import by_scaling_factor, chosen_factors
from taxlt_mergekit.report.by_language import by_language
from taxlt_mergekit.report.html.page import document
from taxlt_mergekit.report.regret import by_criterion
from taxlt_mergekit.report.study import Options, Study
from taxlt_mergekit.report.tables import Block, Heading, Item, Number, Picture, Table, bullets, page
from taxlt_mergekit.report.wording import SPLITS, by_weight, percent, weight_label


def build(
    studies: Sequence[Study],
    parts: Sequence[Cell],
    notes: Sequence[str],
    options: Options,
    choices: Sequence[Choice] = (),
) -> list[Block]:
    """The whole report: for each θ₀ its tables by language, by scaling factor and by density.

    Args:
        studies: of finished cells, one a place in the tables (`collect.collect`).
        parts: scores of parts of tasks, which stand apart.
        notes: what a reader should know of the cells.
        choices: of criteria, whose regret is shown.

    Raises:
        UserError: nothing to show on the split that was asked for.
    """
    splits = {cell.split for cell in parts}.union(*(study.splits for study in studies))
    if options.split and options.split not in splits:
        how = "taxlt sweep RECIPE… --test" if options.split == "test" else "taxlt sweep RECIPE…"
        raise UserError(f"--split {options.split}: no results on this split; {how} writes them")
    blocks: list[Block] = [Heading(1, "Report")]
    for model in dict.fromkeys(study.model for study in studies):
        of_model = [study for study in studies if study.model == model]
        blocks.append(Heading(2, model or "θ₀ not known (say which with --model)"))
        for study in tqdm(of_model, desc="bootstrap", unit="benchmark", leave=False, disable=None):
            blocks += by_language(study, options)
        blocks += by_scaling_factor(of_model, options)
        blocks += chosen_factors(of_model, options)
        blocks += by_density(of_model, options)
        for study in of_model:
            blocks += by_criterion(study, choices, options)
    blocks += _of_parts([cell for cell in parts if options.split in (None, cell.split)])
    return [*blocks, Heading(2, "Notes"), *bullets(notes)] if notes else blocks


def _of_parts(parts: Sequence[Cell]) -> list[Block]:
    """Scores of parts of tasks, one by one: they compare with no others, so they have no mean."""
    if not parts:
        return []
    rows: list[tuple[Item, ...]] = [
        (
            table_name_of(cell.variant),
            weight_label(cell.parameters),
            cell.task,
            cell.coverage.text if cell.coverage else "",
            metric_of(cell),
            Number(percent(cell.metrics.get(metric_of(cell)))),
        )
        for cell in sorted(parts, key=lambda cell: (cell.task, cell.variant, by_weight(cell.parameters)))
    ]
    return [
        Heading(2, "Parts of tasks"),
        "Of some of a task's documents (`--limit`), to try things out: in no other table, mean or choice.",
        Table("parts", ("Method", "λ", "Task", "Scored", "Metric", "Score (%)"), tuple(rows)),
    ]


def all_scores(studies: Iterable[Study]) -> Table:
    """Every score that the report is made of, averaged over training seeds: a row for each, in percent."""
    rows: list[tuple[Item, ...]] = []
    for study in studies:
        runs = Counter((c.variant, c.split, c.parameters, column_of(c)) for c in study.cells)
        for variant in study.variants:
            for split in SPLITS:
                scores = study.grid(variant, split)
                for p in sorted(scores, key=by_weight):
                    settings = (p.source_weight, p.target_weight, p.density, p.select, p.scope)
                    inside, outside = study.columns([scores[p]])
                    for column in (*inside, *outside):
                        rows.append(
                            (
                                *(study.model, study.benchmark or "", variant),
                                *("" if setting is None else str(setting) for setting in settings),
                                *(split, column, study.metric, Number(percent(scores[p][column]))),
                                str(runs[variant, split, p, column]),
                            )
                        )
    header = "model benchmark variant source_weight target_weight density select scope split language metric"
    return Table("scores", (*header.split(), "score", "runs"), tuple(rows))


def write(blocks: Sequence[Block], scores: Table, folder: Path, html: bool = False) -> list[Path]:
    """Write a CSV for each table and for all scores, a PNG and an SVG for each picture, and `report.md`.

    With `html` also `report.html`, which has all of `report.md` in one file. All are drawn before the first
    is put in its place, `report.md` last.

    Returns:
        The files, `report.md` last.

    Raises:
        UserError: the folder cannot be written.
    """
    place = folder / ".unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)  # of a report that was killed
        place.mkdir()
        return [file.replace(folder / file.name) for file in _drawn(blocks, scores, place, html)]
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {one_line(error)}") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _drawn(blocks: Sequence[Block], scores: Table, folder: Path, html: bool) -> list[Path]:
    drawn: list[Path] = []
    for table in [*(block for block in blocks if isinstance(block, Table)), scores]:
        drawn.append(folder / f"{table.name}.csv")
        drawn[-1].write_text(table.csv(), encoding="utf-8")
    for block in blocks:
        if isinstance(block, Picture):
            drawn += plots.save(plots.draw(block.panels, block.axis, block.title), folder / block.name)
    if html:
        drawn.append(folder / "report.html")
        drawn[-1].write_text(document(blocks), encoding="utf-8")
    drawn.append(folder / "report.md")
    drawn[-1].write_text(page(blocks), encoding="utf-8")
    return drawn
