"""The cells of one θ₀ and benchmark as grids of average scores, and how a reader is told of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taxlt_mergekit.cells.selection import Grid, best_parameters, complete, grid, in_mean, metric_of
from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Split, size_of
from taxlt_mergekit.paper.variants import TABLE_NAMES

METRICS = {"acc": "accuracy (%)", "f1_macro": "macro-F1 (%)"}
SPLITS: dict[Split, str] = {"dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Options:
    """What a report shows.

    Attributes:
        split: show this split only; None: test where there is one in the tables by language, validation in
            those by scaling factor and density.
        per_language: choose λ for each language, not for the average over a benchmark's languages.
        against_paper: put the paper's figures beside.
        resamples, seed: of the bootstrap.
    """

    split: Split | None = None
    per_language: bool = False
    against_paper: bool = False
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Study:
    """One θ₀ on one benchmark; tasks outside the catalog are together, by metric."""

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

    def grid(self, variant: str, split: Split, sparse: bool | None = None) -> Grid:
        """Scores 0..1 averaged over seeds; `sparse` keeps the cells with a density below 1, or the others."""
        scores = grid(cell for cell in self.cells if (cell.variant, cell.split) == (variant, split))
        return {p: row for p, row in scores.items() if sparse is None or (p.density is not None) == sparse}

    def columns(self, rows: Iterable[Iterable[str]]) -> tuple[list[str], list[str]]:
        """The languages of `rows` in the catalog's order: those in the mean, and those outside it."""
        present = {column for row in rows for column in row}
        entry = catalog.load().benchmarks.get(self.benchmark or "")
        columns = [code for code in entry.tasks if code in present] if entry else []
        columns += sorted(present - set(columns))
        inside = [column for column in columns if in_mean(self.benchmark, column)]
        return inside, [column for column in columns if column not in inside]

    def averaged(self, scores: Grid) -> Grid:
        """The part of a grid that the paper's averages are over."""
        inside = {
            p: {column: score for column, score in row.items() if in_mean(self.benchmark, column)}
            for p, row in scores.items()
        }
        return {p: row for p, row in inside.items() if row}

    def choose(
        self, variant: str, sparse: bool, columns: Iterable[str], per_language: bool
    ) -> dict[str, Parameters]:
        """Language -> the parameters with the best validation score: of all languages together, or of each.

        Empty where no parameters were scored on the validation data of every language.
        """
        scores = self.grid(variant, "dev", sparse)
        overall = best_parameters(complete(self.averaged(scores)))
        chosen = {}
        for column in columns:
            of_column = {p: {column: row[column]} for p, row in scores.items() if column in row}
            best = best_parameters(of_column) if per_language and of_column else overall
            if best is not None:
                chosen[column] = best
        return chosen

    def search_split(self, variant: str, sparse: bool, wanted: Split | None) -> Split | None:
        """Where a grid is shown: on validation data if it was scored there, as in table 3."""
        splits: tuple[Split, ...] = (wanted,) if wanted else ("dev", "test")
        return next((split for split in splits if self.grid(variant, split, sparse)), None)


def studies(cells: Iterable[Cell]) -> list[Study]:
    """Cells by θ₀ and benchmark, in the catalog's order."""
    groups: dict[tuple[str, str | None, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.benchmark, metric_of(cell)), []).append(cell)
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


def ordered(variants: Iterable[str]) -> list[str]:
    """Variants once each: the paper's in its order, then others by name."""
    present = set(variants)
    known = [variant for variant in TABLE_NAMES if variant in present]
    return known + sorted(present - set(known))


def all_variants(of_model: Sequence[Study]) -> list[str]:
    return ordered(variant for study in of_model for variant in study.variants)


def weights_of(parameters: Parameters) -> Parameters:
    """λ alone, without density."""
    return Parameters(source_weight=parameters.source_weight, target_weight=parameters.target_weight)


def weight_label(parameters: Parameters) -> str:
    """λ for a reader: one number, or both where they differ; the density where it is not dense."""
    source, target = parameters.source_weight, parameters.target_weight
    if source is not None and target is not None and source != target:
        text = f"source {source:g}, target {target:g}"
    else:
        weight = target if source is None else source
        text = "" if weight is None else f"{weight:g}"
    if parameters.density is not None:
        kept = f"{parameters.select or 'top'} {100 * parameters.density:g} %, {parameters.scope or 'global'}"
        text = f"{text} ({kept})".strip()
    return text


def weight_labels(settings: Iterable[Parameters]) -> str:
    return ", ".join(weight_label(parameters) or "unknown" for parameters in sorted(settings, key=by_weight))


def by_weight(parameters: Parameters) -> tuple:
    """Sort key: λ of the target, λ of the source, density."""
    numbers = (parameters.target_weight, parameters.source_weight, parameters.density)
    names = (parameters.select, parameters.scope)
    return (*(-1.0 if number is None else number for number in numbers), *(name or "" for name in names))


def holes(scores: Grid, full: Grid) -> list[str]:
    """What of a grid is not in its averages, since cells are missing."""
    texts = []
    gone = scores.keys() - full.keys()
    if gone:
        texts.append(f"no mean at λ {weight_labels(gone)}, which was not scored on all languages")
    kept = {column for row in full.values() for column in row}
    columns = sorted({column for row in scores.values() for column in row} - kept)
    if columns:
        texts.append(f"without {', '.join(columns)}, not scored at all of these λ")
    return texts


def percent(score: float | None) -> float | None:
    return None if score is None else 100 * score


def percents(scores: Mapping[str, float], columns: Iterable[str]) -> list[float | None]:
    return [percent(scores.get(column)) for column in columns]


def code_label(column: str) -> str:
    """Language codes as the paper prints them; tasks as they are."""
    return column.upper() if len(column) <= 3 else column


def slug(text: str) -> str:
    """A piece of a file's name; the paper's models by their folder's name."""
    size = size_of(text)
    name = catalog.load().models[size].folder if size else text.strip("/").lower()
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name) or "unknown"
