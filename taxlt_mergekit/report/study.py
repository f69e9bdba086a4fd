"""The cells of one θ₀ and benchmark as grids of average scores."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from taxlt_mergekit.cells.choices import Choice
from taxlt_mergekit.cells.selection import (
    Grid,
    best_parameters,
    canonical,
    column_of,
    complete,
    grid,
    in_mean,
    metric_of,
)
from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Split, hub_id, size_of
from taxlt_mergekit.paper.variants import MODEL, TABLE_NAMES, is_of_another_method, is_per_group
from taxlt_mergekit.report.wording import METRICS, slug


@dataclass(frozen=True)
class Options:
    """What a report shows.

    Attributes:
        split: show this split only; None: test where there is one in the tables by language, validation in
            those by scaling factor and density.
        per_language: choose λ for each language, not for the average over a benchmark's languages.
        against_paper: put the paper's figures beside.
        baselines: variants against which the others' differences are shown.
        resamples, seed: of the bootstrap.
    """

    split: Split | None = None
    per_language: bool = False
    against_paper: bool = False
    baselines: tuple[str, ...] = (MODEL,)
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Line:
    """A row: a variant at the parameters that were chosen for each language.

    Attributes:
        scores: 0..1, averaged over training seeds.
    """

    variant: str
    split: Split
    label: str
    parameters: Mapping[str, Parameters]
    scores: Mapping[str, float]

    def mean(self, columns: Sequence[str]) -> float | None:
        """None where a language is missing: the mean over fewer does not compare."""
        if not columns or any(column not in self.scores for column in columns):
            return None
        return fmean(self.scores[column] for column in columns)


@dataclass(frozen=True)
class Study:
    """One θ₀ on one benchmark; tasks outside the catalog are together, by metric.

    Attributes:
        cells: with `canonical` parameters.
    """

    model: str
    benchmark: str | None
    metric: str
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        entry = catalog.load().benchmarks.get(self.benchmark or "")
        return entry.title if entry else (self.benchmark or "Other tasks")

    @property
    def stem(self) -> str:
        """The study's part of a file's name."""
        return slug(self.benchmark or f"other_{self.metric}")

    @property
    def unit(self) -> str:
        return METRICS.get(self.metric, f"{self.metric} (%)")

    @property
    def size(self) -> catalog.Size | None:
        return size_of(self.model)

    @property
    def variants(self) -> list[str]:
        return ordered(cell.variant for cell in self.cells)

    @property
    def splits(self) -> set[Split]:
        return {cell.split for cell in self.cells}

    def grid(self, variant: str, split: Split, sparse: bool | None = None) -> Grid:
        """Scores 0..1 averaged over seeds; `sparse` keeps the cells with a density below 1, or the others."""
        return self._grids.get((variant, split, sparse), {})

    @cached_property
    def _grids(self) -> Mapping[tuple[str, Split, bool | None], Grid]:
        cells: dict[tuple[str, Split], list[Cell]] = {}
        for cell in self.cells:
            cells.setdefault((cell.variant, cell.split), []).append(cell)
        grids: dict[tuple[str, Split, bool | None], Grid] = {}
        for (variant, split), of_variant in cells.items():
            scores = grids[variant, split, None] = grid(of_variant)
            for sparse in (False, True):
                kept = {p: row for p, row in scores.items() if (p.density is not None) == sparse}
                grids[variant, split, sparse] = kept
        return grids

    def columns(self, rows: Iterable[Iterable[str]]) -> tuple[list[str], list[str]]:
        """The languages of `rows` in the catalog's order: those in the mean, and those outside it."""
        present = {column for row in rows for column in row}
        entry = catalog.load().benchmarks.get(self.benchmark or "")
        columns = [code for code in entry.tasks if code in present] if entry else []
        columns += sorted(present - set(columns))
        inside = [column for column in columns if in_mean(self.benchmark, column)]
        return inside, [column for column in columns if column not in inside]

    @property
    def languages(self) -> tuple[str, ...]:
        """Those of the benchmark's mean; none for tasks outside the catalog."""
        entry = catalog.load().benchmarks.get(self.benchmark or "")
        return tuple(entry.languages) if entry else ()

    def extent(self, inside: Sequence[str]) -> str:
        """How many languages a mean is over, and which of the benchmark's it lacks."""
        missing = [code for code in self.languages if code not in inside]
        count = f"{len(inside)} language{'s' * (len(inside) != 1)}"
        return f"{count} of {len(self.languages)}, without {', '.join(missing)}" if missing else count

    def averaged(self, scores: Grid) -> Grid:
        """The part of a grid that the paper's averages are over."""
        inside = {
            p: {column: score for column, score in row.items() if in_mean(self.benchmark, column)}
            for p, row in scores.items()
        }
        return {p: row for p, row in inside.items() if row}

    def best(self, variant: str, sparse: bool | None) -> Parameters | None:
        """The parameters with the best average validation score over the languages (section 3).

        None where no parameters were scored on the validation data of every language.
        """
        return best_parameters(complete(self.averaged(self.grid(variant, "dev", sparse))))

    def chosen_on(self, variant: str, sparse: bool | None) -> list[str]:
        """The languages over which `best` averages."""
        full = complete(self.averaged(self.grid(variant, "dev", sparse)))
        return self.columns(full.values())[0]

    def choose(
        self, variant: str, sparse: bool | None, columns: Iterable[str], per_language: bool
    ) -> dict[str, Parameters]:
        """Language -> the parameters with the best validation score, of all together or of each."""
        scores = self.grid(variant, "dev", sparse)
        overall = self.best(variant, sparse)
        chosen = {}
        for column in columns:
            of_column = {p: {column: row[column]} for p, row in scores.items() if column in row}
            best = best_parameters(of_column) if per_language and of_column else overall
            if best is not None:
                chosen[column] = best
        return chosen

    def behind(self, line: Line) -> dict[str, dict[int | None, Cell]]:
        """The cells that a row is the average of, by language and training seed."""
        found: dict[str, dict[int | None, Cell]] = {}
        for cell in self.cells:
            column = column_of(cell)
            is_shown = (cell.variant, cell.split, cell.status) == (line.variant, line.split, "ok")
            if is_shown and column in line.scores and cell.parameters == line.parameters[column]:
                found.setdefault(column, {})[cell.seed] = cell
        return found

    def seeds(self, variant: str, split: Split, points: Collection[Parameters]) -> set[int | None]:
        """The training seeds of a grid's points."""
        cells = (cell for cell in self.cells if (cell.variant, cell.split) == (variant, split))
        return {cell.seed for cell in cells if cell.parameters in points and cell.status == "ok"}

    def search_split(self, variant: str, sparse: bool, wanted: Split | None) -> Split | None:
        """Where a grid is shown: on validation data if it was scored there, as in table 3."""
        splits: tuple[Split, ...] = (wanted,) if wanted else ("dev", "test")
        return next((split for split in splits if self.grid(variant, split, sparse)), None)


def dense_part(variant: str) -> bool | None:
    """The `sparse` of a variant's grid by scaling factor: dense vectors; all of another merge method's.

    A density is the paper's question for its own methods; another's has it as one more parameter.
    """
    return None if is_of_another_method(variant) else False


def studies(cells: Iterable[Cell], choices: Iterable[Choice] = ()) -> list[Study]:
    """Cells by θ₀ and benchmark, in the catalog's order.

    Args:
        choices: of searches of λ by group, whose other trials are left out.
    """
    groups: dict[tuple[str, str | None, str], list[Cell]] = {}
    for cell in _at_choices(cells, choices):
        plain = cell.model_copy(update={"parameters": canonical(cell.parameters)})
        groups.setdefault((cell.model, cell.benchmark, metric_of(cell)), []).append(plain)
    models = [entry.id for entry in catalog.load().models.values()]
    benchmarks = list(catalog.load().benchmarks)

    def order(key: tuple[str, str | None, str]) -> tuple:
        model, benchmark, metric = key
        return (
            models.index(model) if model in models else len(models),
            model,
            benchmarks.index(benchmark) if benchmark in benchmarks else len(benchmarks),
            benchmark or "",
            metric,
        )

    return [Study(*key, tuple(groups[key])) for key in sorted(groups, key=order)]


def _at_choices(cells: Iterable[Cell], choices: Iterable[Choice]) -> Iterator[Cell]:
    """Cells of searches where each ended alone, without their λ, which differ by seed, by what chose."""
    ends = {
        (hub_id(c.model) or c.model, c.recipe, c.variant, c.seed, c.criterion): canonical(c.parameters)
        for c in choices
        if is_per_group(c.variant)
    }
    criteria: dict[tuple, list[str]] = {}
    for (*search, criterion), point in ends.items():
        criteria.setdefault((*search, point), []).append(criterion)
    for cell in cells:
        if not is_per_group(cell.variant):
            yield cell
            continue
        place = (cell.model, cell.recipe, cell.variant, cell.seed, canonical(cell.parameters))
        for criterion in criteria.get(place, ()):
            update = {"variant": f"{cell.variant}_{criterion}", "parameters": Parameters()}
            yield cell.model_copy(update=update)


def ordered(variants: Iterable[str]) -> list[str]:
    """Variants once each: the paper's in its order, then others by name."""
    present = set(variants)
    known = [variant for variant in TABLE_NAMES if variant in present]
    return known + sorted(present - set(known))


def all_variants(of_model: Sequence[Study]) -> list[str]:
    """The variants of several studies, once each, in the order of `ordered`."""
    return ordered(variant for study in of_model for variant in study.variants)
