"""`taxlt report`: tables and figures of results, beside the paper's."""

from pathlib import Path
from typing import Literal

import click

from taxlt_mergekit.paper.variants import MODEL


def _labels(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for value in values:
        path, equals, name = value.rpartition("=")
        if not (path and equals and name):
            raise click.BadParameter(f"{value!r} is not PATH=NAME", context, parameter)
        labels[path] = name
    return labels


@click.command(name="report", short_help="Tables and figures of results, beside the paper's.")
@click.argument("paths", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--against", type=click.Choice(["paper"]), help="Put the paper's figures beside yours.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder to write to.  [default: <first DIR>/report]"
)
@click.option(
    "--html",
    is_flag=True,
    help="Write report.html too: one file, with tables that sort and curves with values.",
)
@click.option("--split", type=click.Choice(["dev", "test"]), help="Show this split only.")
@click.option(
    "--select-per",
    type=click.Choice(["benchmark", "language"]),
    default="benchmark",
    show_default=True,
    help="Choose λ by the average validation score of a benchmark's languages, or for each language.",
)
@click.option(
    "--baseline",
    "baselines",
    metavar="VARIANT",
    multiple=True,
    default=(MODEL,),
    show_default=True,
    help="Show the differences against this variant, by its name in scores.csv: a control's, for instance. "
    "May be repeated.",
)
@click.option(
    "--label",
    "labels",
    metavar="PATH=NAME",
    multiple=True,
    callback=_labels,
    help="Name the variant of a model that lm_eval scored: `model`, `plus_tgt`, … or a name of your own. "
    "PATH is the model as lm_eval was given it, or the folder of its results. May be repeated.",
)
@click.option(
    "--model", "base_model", help="θ₀ of lm_eval's results, where the models' paths do not tell it."
)
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Resamples of the paired bootstrap.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
def command(
    paths: tuple[Path, ...],
    against: str | None,
    output: Path | None,
    html: bool,
    split: Literal["dev", "test"] | None,
    select_per: str,
    baselines: tuple[str, ...],
    labels: dict[str, str],
    base_model: str | None,
    resamples: int,
    seed: int,
) -> None:
    """Print and write tables and figures of the results below DIR.

    Reads the cells of `taxlt sweep` and plain results of `lm_eval --output_path DIR --log_samples`. Writes
    report.md, a CSV for each table and for all scores, and each figure as PNG and SVG.
    """
    from taxlt_mergekit.cells.choices import choices_below
    from taxlt_mergekit.cells.collect import collect
    from taxlt_mergekit.errors import UserError
    from taxlt_mergekit.report.build import all_scores, build, write
    from taxlt_mergekit.report.html.page import check
    from taxlt_mergekit.report.study import Options, all_variants, studies
    from taxlt_mergekit.report.tables import page

    if html:
        check()
    found = collect(paths, labels, base_model)
    if not (found.cells or found.parts):
        why = found.notes[0] if found.notes else "no cells"
        raise UserError(f"{_named(paths)}: no finished results; {why}; taxlt sweep tries failed cells again")
    options = Options(
        split=split,
        per_language=select_per == "language",
        against_paper=against == "paper",
        baselines=tuple(dict.fromkeys(baselines)),
        resamples=resamples,
        seed=seed,
    )
    choices = choices_below(paths)
    everything = studies(found.cells, choices)
    there = all_variants(everything)
    for name in baselines:
        if name not in (MODEL, *there):
            raise UserError(
                f"--baseline {name}: no such variant in {_named(paths)}, which has {', '.join(there)}"
            )
    blocks = build(everything, found.parts, found.notes, options, choices)
    click.echo(page(blocks))
    first = paths[0] if paths[0].is_dir() else paths[0].parent
    folder = output or first / "report"
    written = write(blocks, all_scores(everything), folder, html)
    page_too = ", report.html" * html
    count = len(written) - 1 - html
    click.echo(f"Wrote {written[-1]}{page_too} and {count} tables and pictures beside it.", err=True)


def _named(paths: tuple[Path, ...]) -> str:
    return ", ".join(map(str, paths))
