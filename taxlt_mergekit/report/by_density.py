"""Figures 1 to 3: score by density, with the numbers as a table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from taxlt_mergekit.cells.selection import Grid, complete
from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.paper.catalog import Split
from taxlt_mergekit.paper.variants import MODEL, is_of_another_method, table_name_of
from taxlt_mergekit.report import plots
from taxlt_mergekit.report.study import Options, Study, all_variants
from taxlt_mergekit.report.tables import Block, Heading, Item, Number, Picture, Table, bullets
from taxlt_mergekit.report.wording import SPLITS, by_weight, holes, percent, seeds_label, slug, weight_label

# (select, scope) in the order of their curves' styles.
KINDS = (("top", "global"), ("bottom", "global"), ("top", "tensor"), ("bottom", "tensor"))


@dataclass
class _Densities:
    """One benchmark and variant at one λ: scores 0..1 averaged over the same languages.

    `curves` is (select, scope) -> density -> score, `lines` the scores of the dense variant and of MODEL.
    """

    study: Study
    split: Split
    weights: Parameters
    curves: dict[tuple[str, str], dict[float, float]] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def panel(self, scopes: Collection[str]) -> plots.Panel:
        """`scopes`: all that are in the figure; a curve names its own where there are several."""
        weights = weight_label(self.weights)
        return plots.Panel(
            f"{self.study.title} ({SPLITS[self.split]}, {f'λ = {weights}' if weights else 'λ not known'})",
            f"average {self.study.unit}",
            tuple(
                plots.Curve(
                    f"{select}-k" + (f", {scope} threshold" if len(scopes) > 1 else ""),
                    KINDS.index((select, scope)),
                    tuple((100 * k, 100 * score) for k, score in points.items()),
                )
                for (select, scope), points in self.curves.items()
            ),
            {name: 100 * score for name, score in self.lines.items()},
        )


def by_density(of_model: Sequence[Study], options: Options) -> list[Block]:
    """For each variant with sparse cells a figure with one panel a benchmark, and a table of its numbers."""
    blocks: list[Block] = []
    for variant in all_variants(of_model):
        grids = [grid for study in of_model if (grid := _densities(study, variant, options))]
        if grids:
            label = table_name_of(variant)
            model = of_model[0].model
            name = f"density_{slug(variant)}_{slug(model)}"
            title = "\n".join(filter(None, (f"{label}: score by density", model)))
            scopes = {scope for grid in grids for _, scope in grid.curves}
            panels = tuple(grid.panel(scopes) for grid in grids)
            blocks += [Heading(4, label), Picture(name, title, plots.DENSITY, panels)]
            blocks += [_table(name, grids), *bullets(note for grid in grids for note in grid.notes)]
    return [Heading(3, "Score by density"), *blocks] if blocks else []


def _densities(study: Study, variant: str, options: Options) -> _Densities | None:
    split = study.search_split(variant, sparse=True, wanted=options.split)
    if is_of_another_method(variant):  # whose densities are no share of the largest or smallest
        return None
    sparse = study.averaged(study.grid(variant, split, sparse=True)) if split else {}
    if split is None or not sparse:
        return None
    dense = study.averaged(study.grid(variant, split, sparse=False))
    chosen = study.best(variant, sparse=False)
    weights = {parameters.dense for parameters in sparse}
    shown = min(weights, key=lambda parameters: (_distance(parameters, chosen), by_weight(parameters)))
    found = _Densities(study, split, shown)
    if chosen and chosen != shown:
        found.notes.append(
            f"{study.title}: at the chosen λ = {weight_label(chosen)} no density was scored; "
            f"λ = {weight_label(shown) or 'not known'} is shown."
        )
    rows = {parameters: row for parameters, row in sparse.items() if parameters.dense == shown}
    full = complete(rows)
    columns = {column for row in full.values() for column in row}
    for parameters in sorted(full, key=lambda p: (p.select != "top", p.scope or "", p.density or 1.0)):
        curve = found.curves.setdefault((parameters.select or "top", parameters.scope or "global"), {})
        curve[parameters.density or 1.0] = fmean(full[parameters].values())
    if len(columns) < len(study.languages):
        found.notes.append(f"{study.title}: mean over {study.extent(study.columns([columns])[0])}.")
    found.notes += [f"{study.title}: {text}." for text in holes(rows, full)]
    seeds = study.seeds(variant, split, full)
    model = study.grid(MODEL, split)
    for name, scores, of_line in (
        (plots.DENSE, dense.get(shown, {}), study.seeds(variant, split, {shown})),
        (plots.MODEL, _only(model), study.seeds(MODEL, split, model)),
    ):
        if not columns <= scores.keys():
            found.notes.append(f"{study.title}: no line for {name}, not scored on the same languages.")
            continue
        found.lines[name] = fmean(scores[column] for column in columns)
        if of_line != seeds and None not in of_line | seeds:
            over = f"{seeds_label(of_line)}, densities over {seeds_label(seeds)}"
            found.notes.append(f"{study.title}: {name} is the mean over {over}.")
    return found if found.curves else None


def _table(name: str, grids: Sequence[_Densities]) -> Table:
    densities = sorted({density for grid in grids for points in grid.curves.values() for density in points})
    header = ["k (%)"]
    columns: list[Sequence[Item]] = [
        [*(f"{100 * density:g}" for density in densities), plots.DENSE, plots.MODEL]
    ]
    for grid in grids:
        scopes = {scope for _, scope in grid.curves}
        for (select, scope), points in grid.curves.items():
            header.append(f"{grid.study.title} {select}-k" + (f", {scope}" if len(scopes) > 1 else ""))
            scores = [points.get(density) for density in densities]
            scores += [grid.lines.get(plots.DENSE), grid.lines.get(plots.MODEL)]
            columns.append([Number(percent(score)) for score in scores])
    return Table(name, tuple(header), tuple(zip(*columns, strict=True)))


def _distance(parameters: Parameters, other: Parameters | None) -> float:
    if other is None:
        return 0.0
    return abs((parameters.source_weight or 0.0) - (other.source_weight or 0.0)) + abs(
        (parameters.target_weight or 0.0) - (other.target_weight or 0.0)
    )


def _only(scores: Grid) -> Mapping[str, float]:
    return next(iter(scores.values())) if len(scores) == 1 else {}
