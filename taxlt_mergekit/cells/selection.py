"""Which cell of a grid is chosen: the best average on validation data over the languages (section 3)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.paper import catalog

# Parameters -> language (or task, where it has no language) -> score 0..1
Grid = dict[Parameters, dict[str, float]]


def metric_of(cell: Cell) -> str:
    """The benchmark's metric; for tasks outside the catalog accuracy, or what there is."""
    if cell.benchmark in catalog.load().benchmarks:
        return catalog.load().benchmarks[cell.benchmark].metric
    names = [name for name in cell.metrics if not name.endswith("_stderr")]
    return "acc" if "acc" in names or not names else names[0]


def column_of(cell: Cell) -> str:
    """What a cell is averaged over: its language, or its task where the language is not known."""
    return cell.language or cell.task


def documents_in(cell: Cell) -> int | None:
    """How many documents a score is of, where that is known."""
    if cell.coverage is not None:
        return cell.coverage.scored
    return None if cell.documents is None else len(cell.documents.target)


def in_mean(benchmark: str | None, column: str) -> bool:
    """Whether the paper's averages hold this language: not the source languages, nor Ngaju (footnote 1)."""
    entry = catalog.load().benchmarks.get(benchmark or "")
    return entry is None or column not in entry.outside_mean


def canonical(parameters: Parameters) -> Parameters:
    """The same for all dense cells of one λ: at density 1 it means nothing which entries are kept."""
    return parameters.dense if parameters.density in (None, 1.0) else parameters


def grid(cells: Iterable[Cell]) -> Grid:
    """Scores of one variant on one split, averaged over training seeds; failed cells have none."""
    scores: dict[Parameters, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        metric = metric_of(cell)
        if cell.status == "ok" and metric in cell.metrics:
            scores[canonical(cell.parameters)][column_of(cell)].append(cell.metrics[metric])
    return {
        parameters: {column: fmean(values) for column, values in columns.items()}
        for parameters, columns in scores.items()
    }


def complete(scores: Grid) -> Grid:
    """The part of a grid whose averages compare: parameters that were all scored on the same languages.

    Of a grid with holes (failed cells, a sweep that is under way, one λ that was scored on more languages) it
    is the full rectangle with the most cells; of two such the one with more languages.
    """
    best: Grid = {}
    for columns in sorted({tuple(sorted(row)) for row in scores.values()}):
        full = {
            parameters: {column: row[column] for column in columns}
            for parameters, row in scores.items()
            if row.keys() >= set(columns)
        }
        if _size(full) > _size(best):
            best = full
    return best


def _size(scores: Grid) -> tuple[int, int]:
    languages = len(next(iter(scores.values()), ()))
    return len(scores) * languages, languages


def best_parameters(scores: Mapping[Parameters, Mapping[str, float]]) -> Parameters | None:
    """The parameters with the highest average over languages.

    The paper's protocol on the cells of one benchmark and variant on the validation split. For a choice per
    language, pass the grid of one language. Ties go to the smaller λ, then to the denser vector;
    of λ by group to those that are most alike.

    Args:
        scores: a complete grid, 0..1.

    Returns:
        None for an empty grid.
    """

    def rank(parameters: Parameters) -> tuple[float, ...]:
        groups = parameters.groups.by_name.values() if parameters.groups else [0.0]
        return (
            fmean(scores[parameters].values()),
            min(groups) - max(groups),
            -sum(map(abs, groups)),
            -abs(parameters.target_weight or 0.0),
            -abs(parameters.source_weight or 0.0),
            parameters.density or 1.0,
        )

    return max(scores, key=rank, default=None)
