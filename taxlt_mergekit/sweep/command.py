"""`taxlt sweep`: the grid, a live table, the chosen recipes and, on request, one test run."""

from collections.abc import Callable
from pathlib import Path

import click
from click.core import ParameterSource

from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.variants import MODEL, name_of
from taxlt_mergekit.process import ImportsStay


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recipes", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--weight",
    metavar="GRID",
    help="λ of source and target together: start:end:step or a list. [0.1:1.0:0.1]",
)
@click.option("--source-weight", metavar="GRID", help="λ of the source language alone.")
@click.option("--target-weight", metavar="GRID", help="λ of the target language alone.")
@click.option(
    "--density", metavar="GRID", help="Shares of the language vectors to keep, such as 0.05,0.2,0.5."
)
@click.option(
    "--select", "selects", type=click.Choice(["top", "bottom"]), multiple=True, help="May be given twice."
)
@click.option("--scope", type=click.Choice(["global", "tensor"]), help="[default: global]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--tasks", help="Validation tasks of lm-eval; {language} stands for the recipe's language.")
@click.option("--test-tasks", help="Test tasks, likewise.")
@click.option("--include-path", "--include_path", multiple=True, help="Folder of lm-eval tasks of your own.")
@click.option(
    "--select-per",
    type=click.Choice(["average", "language"]),
    default="average",
    show_default=True,
    help="Choose one point for a benchmark's languages together (the paper's protocol), or one for each.",
)
@click.option("--test", is_flag=True, help="Score MODEL and the chosen points on the test tasks, once.")
@click.option("--batch-size", "--batch_size", default="32", show_default=True, help="A number, or auto.")
@click.option("--device", help="As for lm_eval.")
@click.option("--limit", type=click.IntRange(min=1), help="Documents a task, to try things out.")
@click.option(
    "--seed", type=int, help="Seed of the training run that made the vectors; goes into the results."
)
@click.option("--ray", is_flag=False, flag_value="auto", help="Spread recipes over a Ray cluster [ADDRESS].")
@click.option(
    "--reproduce",
    metavar="NAME",
    help="In place of RECIPES: list the runs behind a table or figure of the paper (table2, 3, 4, 7, 8, 9, "
    "figure1, 2, 3).",
)
@click.option("--yes", is_flag=True, help="With --reproduce: run what is missing.")
@click.pass_context
def command(
    ctx: click.Context,
    recipes: tuple[Path, ...],
    weight: str | None,
    source_weight: str | None,
    target_weight: str | None,
    density: str | None,
    selects: tuple[str, ...],
    scope: str | None,
    output: Path,
    tasks: str | None,
    test_tasks: str | None,
    include_path: tuple[str, ...],
    select_per: str,
    test: bool,
    batch_size: str,
    device: str | None,
    limit: int | None,
    seed: int | None,
    ray: str | None,
    reproduce: str | None,
    yes: bool,
) -> None:
    """Search scaling factors and densities on validation data, without writing merged models.

    RECIPES are mergekit recipes of xlt_additive or xlt_analogy. Their validation tasks are known from their
    names (quy_plus_tgt.yml), or given by --tasks. A sweep that was stopped goes on where it was.

    \b
    taxlt sweep merge_configs/*_plus_tgt.yml --weight 0.1:1.0:0.1 --output results/plus_tgt
    """
    if reproduce:
        _reproduce(ctx, reproduce, output, yes)
        return
    if yes:
        raise UserError("--yes goes with --reproduce")
    if not recipes:
        raise UserError("name RECIPES to sweep, such as merge_configs/*_plus_tgt.yml, or --reproduce table2")
    from taxlt_mergekit.sweep.points import grid_points, parse_values

    if weight and (source_weight or target_weight):
        raise UserError(
            "--weight sets source and target together; give it or --source-weight/--target-weight"
        )
    if not (weight or source_weight or target_weight or density):
        weight = "0.1:1.0:0.1"
    values = {
        name: parse_values(text, f"--{name.replace('_', '-')}")
        for name, text in (
            ("weight", weight),
            ("source_weight", source_weight),
            ("target_weight", target_weight),
            ("density", density),
        )
        if text
    }
    for share in values.get("density", []):
        if not 0 < share <= 1:
            raise UserError(f"--density {density}: every share must be above 0 and at most 1, not {share:g}")
    if (selects or scope) and not density:
        raise UserError("--select and --scope say which entries a density keeps; give --density too")
    if not (batch_size == "auto" or (batch_size.isdecimal() and int(batch_size) > 0)):
        raise UserError(f"--batch-size {batch_size}: a number above 0, or auto")

    with ImportsStay():
        from taxlt_mergekit.sweep import run as sweep
        from taxlt_mergekit.sweep.recipe import Recipe, read_recipe, start
    from taxlt_mergekit.sweep.choose import choose, write_chosen

    read = [read_recipe(path, tasks, test_tasks) for path in dict.fromkeys(recipes)]
    for recipe in read:
        if not recipe.tasks:
            raise UserError(
                f"{recipe.path}: no validation task is known by this name; give --tasks, or name it "
                "<language>_<variant>.yml"
            )
        if test and not recipe.test_tasks:
            raise UserError(f"{recipe.path}: --test needs --test-tasks where --tasks is given")
        varied = [role for role in ("source", "target") if f"{role}_weight" in values]
        if varied and not recipe.roles & set(varied):
            raise UserError(f"{recipe.path}: has no {' or '.join(varied)} vector to vary")
    _refuse_equal_names(read)
    run = sweep.Run(
        batch_size=int(batch_size) if batch_size.isdecimal() else batch_size,
        device=device,
        limit=limit,
        include_path=include_path,
        seed=seed,
    )

    def points(recipe: Recipe) -> list[Parameters]:
        return grid_points(sorted(recipe.roles), **values, select=selects, scope=scope)

    done = sweep.load_done(output)
    execute = _runner(ray)
    search = list(sweep.dev_jobs(read, points))
    later = [sweep.Job(recipe, (), recipe.test_tasks) for recipe in read if test]
    sweep.check_jobs([*search, *later], run)
    cells = _run(search, run, done, output, execute, "Validation")
    chosen = choose(read, cells, per_language=select_per == "language")
    tested: list[Cell] = []
    if test:
        jobs, seen = [], set()
        for recipe in read:
            fresh = tuple(task for task in recipe.test_tasks if (start(recipe), task) not in seen)
            seen |= {(start(recipe), task) for task in fresh}
            if fresh:
                jobs.append(sweep.Job(recipe, (None,), fresh))
            if recipe.path in chosen:
                jobs.append(sweep.Job(recipe, (chosen[recipe.path],), recipe.test_tasks))
        tested = _run(jobs, run, done, output, execute, "Test")
    protocol = "for each language" if select_per == "language" else "on average over languages"
    how = f"chosen by taxlt sweep on validation data, {protocol}"
    written = [write_chosen(r, chosen[r.path], output, how) for r in read if r.path in chosen]
    _summarise(read, chosen, cells, tested)
    click.echo(f"{len(cells) + len(tested)} cells in {output / 'cells.jsonl'}")
    if written:
        click.echo(
            f"{len(written)} chosen recipes in {output / 'best'}; tables and figures: taxlt report {output}"
        )
    failed = [cell for cell in [*cells, *tested] if cell.status == "failed"]
    if failed:
        raise UserError(
            f"{len(failed)} cells failed and are tried again by the same command; the first, "
            f"{failed[0].recipe} on {failed[0].task}: {failed[0].reason}"
        )


def _reproduce(ctx: click.Context, name: str, output: Path, yes: bool) -> None:
    from taxlt_mergekit.sweep import reproduce

    if name not in reproduce.EXPERIMENTS:
        raise UserError(f"--reproduce {name}: one of {', '.join(reproduce.EXPERIMENTS)}")
    passed_on: list[str] = []
    for parameter in ctx.command.params:
        key = str(parameter.name)
        if ctx.get_parameter_source(key) is not ParameterSource.COMMANDLINE:
            continue
        if key in ("batch_size", "device", "ray"):
            passed_on += [parameter.opts[0], str(ctx.params[key])]
        elif key not in ("reproduce", "yes", "output"):
            given = "RECIPES" if key == "recipes" else parameter.opts[0]
            raise UserError(f"{given}: --reproduce {name} says what is swept; leave it out")
    steps = reproduce.plan(name, output, passed_on)
    reproduce.show(name, steps)
    if yes:
        reproduce.carry_out(steps)
    else:
        click.echo("# --yes runs what is missing")


def _refuse_equal_names(read) -> None:
    """`best/` has one place for each name."""
    paths: dict[str, str] = {}
    for recipe in read:
        other = paths.setdefault(Path(recipe.path).name, recipe.path)
        if other != recipe.path:
            raise UserError(
                f"{other} and {recipe.path} have one name, and best/ has one place for it; "
                "sweep them with an --output of their own each"
            )


def _runner(ray: str | None) -> Callable:
    if ray is None:
        from taxlt_mergekit.sweep.run import run_jobs

        return run_jobs
    from functools import partial

    from taxlt_mergekit.sweep.cluster import run_jobs_on_ray

    return partial(run_jobs_on_ray, address=ray)


def _run(jobs, run, done, output, execute, title) -> list[Cell]:
    """Run jobs with a line a cell and a bar; returns all their cells, old and new."""
    from tqdm import tqdm

    from taxlt_mergekit.cells.selection import metric_of
    from taxlt_mergekit.cells.store import append_cell
    from taxlt_mergekit.sweep.run import count_cells

    cells: list[Cell] = []
    with tqdm(total=count_cells(jobs), desc=title, unit="cell") as bar:
        for cell, is_new in execute(jobs, run, done):
            cells.append(cell)
            if is_new:
                append_cell(output, cell)
                metric = metric_of(cell)
                score = cell.metrics.get(metric)
                result = cell.reason if score is None else f"{metric} {100 * score:.2f}"
                tqdm.write(
                    f"{cell.task:<28} {name_of(cell.variant):<9} {_point(cell.parameters):<32} {result}"
                )
            bar.update()
    return cells


def _summarise(read, chosen, cells, tested) -> None:
    from taxlt_mergekit.cells.selection import canonical
    from taxlt_mergekit.sweep.choose import mean_score

    def shown(value: float | None) -> str:
        return "     –" if value is None else f"{100 * value:6.2f}"

    header = f"{'chosen on validation data':<36} {'point':<32}"
    click.echo(f"\n{header} {'valid.':>6} {'MODEL':>6} {'test':>6} {'MODEL':>6}")
    rows = dict.fromkeys((r.group, canonical(chosen[r.path])) for r in read if r.path in chosen)
    for group, point in rows:
        members = [r for r in read if r.group == group and canonical(chosen[r.path]) == point]
        paths, tasks = {r.path for r in members}, {t for r in members for t in (*r.tasks, *r.test_tasks)}
        figures = []
        for source in (cells, tested):
            ours = [c for c in source if c.recipe in paths and c.variant != MODEL]
            models = [c for c in source if c.task in tasks and c.variant == MODEL]
            figures += [shown(mean_score(ours, point)), shown(mean_score(models, None))]
        benchmark, variant, _ = group
        languages = "" if len(members) > 1 or members[0].language is None else f" {members[0].language}"
        name = f"{benchmark or 'own tasks'}{languages} {name_of(variant)}"
        click.echo(f"{name:<36} {_point(point):<32} {' '.join(figures)}")
    for recipe in read:
        if recipe.path not in chosen:
            click.echo(f"{Path(recipe.path).name:<36} no point was scored on every task")


def _point(point: Parameters) -> str:
    parts = []
    if point.source_weight is not None and point.source_weight == point.target_weight:
        parts.append(f"λ {point.source_weight:g}")
    else:
        parts += [f"λ_s {point.source_weight:g}"] if point.source_weight is not None else []
        parts += [f"λ_t {point.target_weight:g}"] if point.target_weight is not None else []
    if point.density is not None and point.density < 1:
        parts.append(f"density {point.density:g} {point.select} {point.scope}")
    return " ".join(parts)
