"""What `taxlt sweep` shows: a line a cell as it comes, and in the end a table of what was chosen.

On a terminal with a bar below the lines and a drawn table; elsewhere as plain lines, for programs to read.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from taxlt_mergekit.cells.selection import canonical, metric_of
from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.cells.unlabelled import Unlabelled
from taxlt_mergekit.criteria.names import LABELS
from taxlt_mergekit.paper.variants import MODEL, name_of
from taxlt_mergekit.sweep.choosing.best import mean_score
from taxlt_mergekit.sweep.recipe import Recipe

HEADER = ("point", "valid.", "MODEL", "test", "MODEL")


def console() -> Console:
    """Standard output: text as it is, never wrapped; colours and bars on a terminal alone."""
    return Console(
        force_terminal=sys.stdout.isatty(), soft_wrap=True, markup=False, emoji=False, highlight=False
    )


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[Cell | Unlabelled, bool], None]]:
    """Follow a run of `total` cells: gives what is to be called with each and whether it is new."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    out = console()
    # The hosts' own bars go to standard error and redraw their line, which rich would print each time.
    with Progress(*columns, console=out, redirect_stderr=False, disable=not out.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        scored: set[str] = set()

        def show(kept: Cell | Unlabelled, is_new: bool) -> None:
            if isinstance(kept, Unlabelled) and kept.task in scored:
                return  # of a task that has its line
            if isinstance(kept, Cell):
                scored.add(kept.task)
            if is_new:
                out.print(_line(kept) if isinstance(kept, Cell) else _predictions(kept))
            bar.advance(task)

        yield show


def summarise(
    recipes: Sequence[Recipe],
    chosen: Mapping[str, Parameters],
    cells: Sequence[Cell],
    tested: Sequence[Cell],
    criterion: str = LABELS,
) -> None:
    """Print the chosen point of each group of recipes with its scores and MODEL's, in percent.

    Args:
        chosen: points by the recipe's path.
        cells: of the validation tasks.
        tested: of the test tasks; none where there was no test.
        criterion: what chose.
    """
    how = "on validation data" if criterion == LABELS else f"by {criterion}"
    header = (f"chosen {how}", *HEADER)
    rows = _chosen_rows(recipes, chosen, cells, tested)
    out = console()
    if out.is_terminal:
        table = Table(box=SIMPLE_HEAD)
        for place, name in enumerate(header):
            table.add_column(name, justify="left" if place < 2 else "right")
        for row in rows:
            table.add_row(*row)
        out.print(table, soft_wrap=False)
    else:
        out.print()
        for row in (header, *rows):
            out.print(_aligned(row))
    for recipe in recipes:
        if recipe.path not in chosen:
            out.print(f"{Path(recipe.path).name:<36} no point was scored on every task")


def _chosen_rows(
    recipes: Sequence[Recipe],
    chosen: Mapping[str, Parameters],
    cells: Sequence[Cell],
    tested: Sequence[Cell],
) -> list[tuple[str, ...]]:
    """A row of texts, as `summarise` names them, for every group of recipes and point chosen there."""
    points = {path: canonical(point) for path, point in chosen.items()}
    rows = []
    for group, point in dict.fromkeys((r.group, points[r.path]) for r in recipes if r.path in points):
        members = [r for r in recipes if r.group == group and points.get(r.path) == point]
        paths = {r.path for r in members}
        of_task_model = {r.path for r in recipes if r.start == members[0].start}
        figures = []
        for scored, tasks in (
            (cells, {t for r in members for t in r.tasks}),
            (tested, {t for r in members for t in r.test_tasks}),
        ):
            ours = [c for c in scored if c.recipe in paths and c.variant != MODEL]
            models = [c for c in scored if c.recipe in of_task_model and c.variant == MODEL]
            figures += [_percent(mean_score(ours, point, tasks)), _percent(mean_score(models, None, tasks))]
        benchmark, variant, _ = group
        language = "" if len(members) > 1 or members[0].language is None else f" {members[0].language}"
        rows.append((f"{benchmark or 'own tasks'}{language} {name_of(variant)}", words(point), *figures))
    return rows


def _line(cell: Cell) -> str:
    metric = metric_of(cell)
    score = cell.metrics.get(metric)
    part = f" ({cell.coverage.text})" if cell.is_part and cell.coverage else ""
    result = cell.reason or "no labels" if score is None else f"{metric} {_percent(score)}{part}"
    return f"{cell.task:<28} {name_of(cell.variant):<9} {words(cell.parameters):<32} {result}"


def _predictions(line: Unlabelled) -> str:
    shares = " ".join(f"{share:.0%}" for share in line.shares) if line.log_probabilities else line.reason
    return f"{line.task:<28} {name_of(line.variant):<9} {words(line.parameters):<32} classes {shares}"


def _aligned(row: Sequence[str]) -> str:
    name, point, *figures = row
    return f"{name:<36} {point:<32} {' '.join(f'{figure:>6}' for figure in figures)}"


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.2f}"


def words(point: Parameters) -> str:
    """A point in words: `λ 0.5 density 0.2 top global`."""
    parts = []
    if point.groups is not None:
        parts.append(f"λ {point.groups.text}")
    elif point.source_weight is not None and point.source_weight == point.target_weight:
        parts.append(f"λ {point.source_weight:g}")
    else:
        parts += [f"λ_s {point.source_weight:g}"] if point.source_weight is not None else []
        parts += [f"λ_t {point.target_weight:g}"] if point.target_weight is not None else []
    if point.density is not None and point.density < 1:
        parts.append(f"density {point.density:g} {point.select} {point.scope}")
    return " ".join(parts)
