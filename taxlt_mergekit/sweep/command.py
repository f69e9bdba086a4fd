"""`taxlt sweep`: the grid, a line a cell, the chosen recipes and, on request, one test run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from taxlt_mergekit.cells.selection import column_of, in_mean
from taxlt_mergekit.cells.store import CELLS_FILE, Cell, Parameters, append_cell
from taxlt_mergekit.cells.unfinished import mark, unmark
from taxlt_mergekit.cells.unlabelled import Unlabelled, append_unlabelled
from taxlt_mergekit.criteria.names import LABELS, NAMES, SUMMARIES
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.process import imports_stay
from taxlt_mergekit.sweep.points import FACTORS
from taxlt_mergekit.sweep.reproduce import EXPERIMENTS, carry_out, plan, show
from taxlt_mergekit.sweep.request import TRIALS, Request, check_flags, check_recipes

if TYPE_CHECKING:  # they import torch and the hosts, which takes seconds
    from taxlt_mergekit.sweep.choosing.text import Text
    from taxlt_mergekit.sweep.jobs import Job
    from taxlt_mergekit.sweep.recipe import Recipe
    from taxlt_mergekit.sweep.run import Kept, Run

# Folders of chosen recipes: of whole tasks, and of parts of them (--limit), which never replace the former.
BEST, TRIAL = "best", "trial"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recipes", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--weight",
    metavar="GRID",
    help=f"λ of source and target together: start:end:step or a list. [{FACTORS}]",
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
@click.option(
    "--select-by",
    type=click.Choice(NAMES),
    help="What chooses. labels, the default: the language's own validation labels. Without them: "
    f"{'; '.join(f'{name}: {SUMMARIES[name]}' for name in NAMES[1:])}. All that can be computed are, "
    "for taxlt report to compare.",
)
@click.option(
    "--text",
    metavar="FILE",
    help="Documents without labels, one a line, pairs with a tab between, for balance; "
    "{language} stands for the recipe's language. At most 400 are read. Without it the tasks' documents "
    "are, but not their labels.",
)
@click.option(
    "--per-group",
    is_flag=True,
    help="After the grid, search λ apart for embeddings and for lower, middle and upper layers among the "
    "values of --weight, from the chosen λ on; best/ gets NAME.per_group.yml too. Needs "
    "pip install 'taxlt-mergekit[search]'.",
)
@click.option(
    "--trials", type=click.IntRange(min=2), help=f"Points that --per-group tries. [default: {TRIALS}]"
)
@click.option("--test", is_flag=True, help="Score MODEL and the chosen points on the test tasks, once.")
@click.option("--batch-size", "--batch_size", default="32", show_default=True, help="A number, or auto.")
@click.option("--device", help="As for lm_eval.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Documents a task, to try things out; choices go to trial/."
)
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
def command(ctx: click.Context, reproduce: str | None, yes: bool, **flags: Any) -> None:
    """Search scaling factors and densities on validation data, without writing merged models.

    RECIPES are mergekit recipes of xlt_additive or xlt_analogy. Their validation tasks are known from their
    names (quy_plus_tgt.yml), or given by --tasks. A sweep that was stopped goes on where it was.

    \b
    taxlt sweep merge_configs/*_plus_tgt.yml --weight 0.1:1.0:0.1 --output results/plus_tgt
    """
    if reproduce:
        _reproduce(ctx, reproduce, flags["output"], yes)
    elif yes:
        raise UserError("--yes goes with --reproduce")
    else:
        _sweep(check_flags(**flags))


def _reproduce(ctx: click.Context, name: str, output: Path, yes: bool) -> None:
    """List the commands behind a table or figure of the paper; with `yes` run what is missing."""
    if name not in EXPERIMENTS:
        raise UserError(f"--reproduce {name}: one of {', '.join(EXPERIMENTS)}")
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
    steps = plan(name, output, passed_on)
    show(name, steps)
    if yes:
        carry_out(steps)
    else:
        click.echo("# --yes runs what is missing")


def _sweep(asked: Request) -> None:
    """Search, choose and, on request, test; write the chosen recipes and sum up."""
    with imports_stay():
        from taxlt_mergekit.sweep.run import check_jobs, load_done, run_of
    from taxlt_mergekit.cells.choices import append_choices
    from taxlt_mergekit.sweep.choosing.best import choose, write_chosen
    from taxlt_mergekit.sweep.choosing.criteria import Comparison, compare, require
    from taxlt_mergekit.sweep.console import summarise
    from taxlt_mergekit.sweep.curves import show_criteria
    from taxlt_mergekit.sweep.jobs import Job, name_of_sweep, search_jobs, test_jobs
    from taxlt_mergekit.sweep.points import own_parameters
    from taxlt_mergekit.sweep.recipe import read_recipe
    from taxlt_mergekit.sweep.search.by_group import prepare_search

    recipes = [read_recipe(path, asked.tasks, asked.test_tasks) for path in asked.recipes]
    check_recipes(recipes, asked)
    if asked.without_labels:
        recipes = [replace(recipe, tasks=()) for recipe in recipes]
    texts = _texts(recipes, asked)
    run = run_of(asked)
    done = load_done(asked.output)
    search = list(search_jobs(recipes, asked.points, texts, asked.compares and not texts))
    later = [Job(recipe, (), recipe.test_tasks) for recipe in recipes if asked.test]
    check_jobs([*search, *later], run)
    by_group = prepare_search(recipes, asked, run, texts) if asked.trials else None

    count = sum(job.size for job in search) + (by_group.size if by_group else 0)
    name = name_of_sweep(search, asked.limit, asked.seed, asked.trials)
    keep = _Keeper(asked.output, name, recipes, count)
    found = _run("Validation", search, run, done, asked, keep)
    cells = [kept for kept in found if isinstance(kept, Cell)]
    unlabelled = [kept for kept in found if isinstance(kept, Unlabelled)]
    comparison: Comparison | None = None
    if asked.compares:
        points = {recipe.path: asked.points(recipe) for recipe in recipes}
        comparison = compare(recipes, cells, unlabelled, points, asked.per_language)
        append_choices(asked.output, comparison.choices(recipes, asked.seed))
    if comparison is None or asked.criterion == LABELS:
        chosen = choose(recipes, cells, asked.per_language)
    else:
        require(comparison, asked.criterion, recipes)
        chosen = {
            recipe.path: own_parameters(recipe, comparison.points(asked.criterion)[recipe.path])
            for recipe in recipes
        }
    swept = recipes
    if by_group:
        found += _follow("Groups", by_group.size, by_group.trials(chosen, done), keep)
        cells = [kept for kept in found if isinstance(kept, Cell)]
        best, choices = by_group.chosen()
        append_choices(asked.output, choices)
        recipes, chosen = [*recipes, *by_group.recipes], chosen | best
    jobs = list(test_jobs(recipes, chosen)) if asked.test else []
    tested = [kept for kept in _run("Test", jobs, run, done, asked, keep) if isinstance(kept, Cell)]
    is_trial = any(cell.is_part for cell in cells) or bool(asked.limit and texts)
    place = asked.output / (TRIAL if is_trial else BEST)
    for recipe in recipes:
        if recipe.path in chosen:
            write_chosen(recipe, chosen[recipe.path], place, _how(recipe, recipes, chosen, asked, cells))
    summarise(recipes, chosen, cells, tested, asked.criterion)
    if comparison is not None:
        show_criteria(swept, comparison, asked.criterion)
    keep.conclude([*found, *tested])
    _conclude([*found, *tested], len(chosen), asked.output, place)


def _texts(recipes: "Sequence[Recipe]", asked: Request) -> "dict[str, Text]":
    """The documents of `--text` for each recipe, by its path."""
    from taxlt_mergekit.sweep.choosing.text import read_documents

    texts: dict[str, Text] = {}
    for recipe in recipes if asked.text else ():
        name = asked.text or ""
        language = recipe.language or Path(recipe.path).name.partition("_")[0]
        texts[recipe.path] = read_documents(Path(name.replace("{language}", language)))
    return texts


def _how(
    recipe: "Recipe",
    recipes: "Sequence[Recipe]",
    chosen: Mapping[str, Parameters],
    asked: Request,
    cells: Sequence[Cell],
) -> str:
    """What a chosen recipe says of itself: on which data, and over which languages, it was chosen."""
    by_group = f"; λ by group, the best of {asked.trials} trials" * bool(recipe.groups)
    if asked.criterion != LABELS:
        return f"chosen by taxlt sweep by {asked.criterion} ({SUMMARIES[asked.criterion]}){by_group}"
    together = [recipe] if asked.per_language else [r for r in recipes if r.group == recipe.group]
    paths = {r.path for r in together if r.path in chosen}
    columns = dict.fromkeys(
        column_of(cell) for cell in cells if cell.recipe in paths and cell.variant != MODEL
    )
    inside = [column for column in columns if in_mean(recipe.benchmark, column)] or list(columns)
    part = next((cell.coverage.text for cell in cells if cell.is_part and cell.coverage), None)
    return (
        f"chosen by taxlt sweep on validation data, on average over {', '.join(inside)}"
        f"{f'; a trial, on {part} only' if part else ''}{by_group}"
    )


class _Keeper:
    """Writes new cells down; until all are there, a file beside them says that they are not."""

    def __init__(self, output: Path, name: str, recipes: "Sequence[Recipe]", cells: int):
        self._output, self._name, self._cells = output, name, cells
        self._recipes = [Path(recipe.path).name for recipe in recipes]
        self._marked: Path | None = None

    def add(self, kept: "Kept") -> None:
        if self._marked is None:
            self._marked = mark(self._output, self._name, self._cells, self._recipes)
        if isinstance(kept, Cell):
            append_cell(self._output, kept)
        else:
            append_unlabelled(self._output, kept)

    def conclude(self, cells: "Sequence[Kept]") -> None:
        """All are there, unless some failed."""
        if all(cell.status == "ok" for cell in cells):
            unmark(self._output, self._name)


def _run(
    title: str,
    jobs: "Sequence[Job]",
    run: "Run",
    done: "dict[str, Kept]",
    asked: Request,
    keep: _Keeper,
) -> "list[Kept]":
    """Run jobs, keep each new cell and show it; returns all that is kept of them, old and new."""
    size = sum(job.size for job in jobs)
    return _follow(title, size, _scored(jobs, run, done, asked.ray), keep)


def _follow(title: str, size: int, scored: "Iterator[tuple[Kept, bool]]", keep: _Keeper) -> "list[Kept]":
    """Keep and show what comes; returns all of it, old and new."""
    from taxlt_mergekit.sweep.console import progress

    cells: list[Kept] = []
    with progress(title, size) as show_cell:
        for cell, is_new in scored:
            cells.append(cell)
            if is_new:
                keep.add(cell)
            show_cell(cell, is_new)
    return cells


def _scored(
    jobs: "Sequence[Job]", run: "Run", done: "dict[str, Kept]", ray: str | None
) -> "Iterator[tuple[Kept, bool]]":
    if ray is None:
        from taxlt_mergekit.sweep.run import run_jobs

        return run_jobs(jobs, run, done)
    from taxlt_mergekit.sweep.cluster import run_jobs_on_ray

    return run_jobs_on_ray(jobs, run, done, ray)


def _conclude(cells: "Sequence[Kept]", chosen: int, output: Path, place: Path) -> None:
    """Say what was written.

    Raises:
        UserError: cells failed.
    """
    click.echo(f"{sum(isinstance(kept, Cell) for kept in cells)} cells in {output / CELLS_FILE}")
    if chosen:
        what = "chosen recipes of this trial" if place.name == TRIAL else "chosen recipes"
        click.echo(f"{chosen} {what} in {place}; tables and figures: taxlt report {output}")
    failed = [cell for cell in cells if cell.status == "failed"]
    if failed:
        raise UserError(
            f"{len(failed)} cells failed and are tried again by the same command; the first, "
            f"{failed[0].recipe} on {failed[0].task}: {failed[0].reason}"
        )
