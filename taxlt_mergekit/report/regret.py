"""What each way of choosing λ costs: its score beside the best point's of the same grid, in points."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from taxlt_mergekit.cells.choices import Choice
from taxlt_mergekit.cells.selection import canonical, column_of
from taxlt_mergekit.cells.store import Parameters
from taxlt_mergekit.criteria.names import NAMES
from taxlt_mergekit.paper.catalog import Split, hub_id
from taxlt_mergekit.paper.variants import MODEL, is_per_group, per_group, table_name_of
from taxlt_mergekit.report.study import Options, Study
from taxlt_mergekit.report.tables import Block, Difference, Heading, Item, Number, Table, bullets
from taxlt_mergekit.report.wording import SPLITS, code_label, slug, weight_label

FIXED = (0.8, 0.9, 1.0)
# Losses for an interval: of fewer, 95 % of the resampled means reach from the least to the largest.
FEWEST = 4
PER_GROUP = ", per group"  # after the criterion's name, where it searched λ by group of tensors

# Language and seed.
Place = tuple[str, int | None]


@dataclass(frozen=True)
class Regret:
    """One criterion in one language with one seed; scores 0..1.

    Attributes:
        point: the chosen one; None for MODEL.
        score, oracle, model: at that point, at the grid's best, of MODEL.
    """

    criterion: str
    language: str
    seed: int | None
    point: Parameters | None
    score: float
    best: Parameters
    oracle: float
    model: float | None

    @property
    def loss(self) -> float:
        """Points between the grid's best score and this one; of λ by group it may be below 0."""
        return 100 * (self.oracle - self.score)


def regrets(study: Study, variant: str, split: Split, choices: Iterable[Choice]) -> list[Regret]:
    """Every criterion's, MODEL's and those of fixed factors, wherever the whole grid was scored.

    Args:
        choices: of any studies; those of this one count whose every point has a score. Of λ by group the
            chosen one needs a score; it is set beside the same grid of single λ.
    """
    scores = _scores(study, variant, split)
    model = {place: score for place, row in _scores(study, MODEL, split).items() for score in row.values()}
    of_study = [c for c in choices if (hub_id(c.model) or c.model) == study.model]
    found: list[Regret] = []
    oracles: dict[Place, tuple[Parameters, float]] = {}
    for choice in of_study:
        place = _place(study, choice, scores)
        if choice.variant != variant:
            continue
        grid = {
            point: scores[place][point]
            for rated in choice.curve
            if (point := canonical(rated.parameters)) in scores.get(place, {})
        }
        if not grid or len(grid) < len(choice.curve):
            continue
        best = max(grid, key=lambda point: grid[point])
        named: dict[str, Parameters | None] = {choice.criterion: canonical(choice.parameters)}
        if place not in oracles:
            oracles[place] = best, grid[best]
            named |= {"MODEL": None} if place in model else {}
            named |= {f"λ {at.weight:g}": at for at in grid if at.weight in FIXED and at.density is None}
        for name, chosen in named.items():
            score = model[place] if chosen is None else grid[chosen]
            found.append(Regret(name, *place, chosen, score, best, grid[best], model.get(place)))
    for choice in of_study:
        if choice.variant != per_group(variant):
            continue
        grouped = _scores(study, per_group(variant, choice.criterion), split)
        place = _place(study, choice, grouped)
        for score in grouped.get(place, {}).values() if place in oracles else ():  # where its search ended
            point, name = canonical(choice.parameters), choice.criterion + PER_GROUP
            found.append(Regret(name, *place, point, score, *oracles[place], model.get(place)))
    return found


def _scores(study: Study, variant: str, split: Split) -> dict[Place, dict[Parameters, float]]:
    scores: dict[Place, dict[Parameters, float]] = {}
    for cell in study.cells:
        if (cell.variant, cell.split) == (variant, split) and study.metric in cell.metrics:
            place = (column_of(cell), cell.seed)
            scores.setdefault(place, {})[cell.parameters] = cell.metrics[study.metric]
    return scores


def _place(study: Study, choice: Choice, scores: Mapping[Place, object]) -> Place:
    place = (choice.language or "", choice.seed)
    return place if place in scores else _by_recipe(study, choice) or place


def _by_recipe(study: Study, choice: Choice) -> Place | None:
    """The place of a choice whose language has no name: that of its recipe's cells, where it is one."""
    columns = {column_of(cell) for cell in study.cells if cell.recipe == choice.recipe}
    return (columns.pop(), choice.seed) if len(columns) == 1 else None


def by_criterion(study: Study, choices: Sequence[Choice], options: Options) -> list[Block]:
    """For each variant a table of means, and one of every language and seed."""
    blocks: list[Block] = []
    for variant in study.variants:
        if variant == MODEL or is_per_group(variant):
            continue
        splits: tuple[Split, ...] = (options.split,) if options.split else ("test", "dev")
        split, found = next(
            ((split, rows) for split in splits if (rows := regrets(study, variant, split, choices))),
            ("dev", []),
        )
        if found:
            blocks += _tables(study, variant, split, found, options)
    return blocks


def _tables(
    study: Study, variant: str, split: Split, found: Sequence[Regret], options: Options
) -> list[Block]:
    by_name: dict[str, list[Regret]] = {}
    for regret in found:
        by_name.setdefault(regret.criterion, []).append(regret)
    order = sorted(by_name, key=lambda name: fmean(regret.loss for regret in by_name[name]))
    rows: list[tuple[Item, ...]] = []
    for name in order:
        losses = [regret.loss for regret in by_name[name]]
        margins = [100 * (r.score - r.model) for r in by_name[name] if r.model is not None]
        below = sum(margin < -1e-9 for margin in margins)
        rows.append(
            (
                name,
                str(len(losses)),
                Difference(fmean(losses), *_interval(losses, options)),
                Number(max(losses)),
                f"{below} of {len(margins)}" if margins else "–",
                Number(min(margins, default=None), signed=True),
            )
        )
    single: list[tuple[Item, ...]] = [
        (
            r.criterion,
            code_label(r.language),
            "" if r.seed is None else str(r.seed),
            "–" if r.point is None else weight_label(r.point),
            Number(100 * r.score),
            weight_label(r.best),
            Number(100 * r.oracle),
            Number(r.loss),
            Number(None if r.model is None else 100 * r.model),
        )
        for name in order
        for r in sorted(by_name[name], key=lambda r: (r.language, str(r.seed)))
    ]
    stem = f"{study.stem}_{slug(study.model)}_{slug(variant)}_{split}"
    header = ("Chosen by", "n", "Mean loss", "Largest", "Below MODEL", "Least gain")
    notes = [
        f"Loss: points between the best {SPLITS[split]} score of the grid and the score at the chosen λ; "
        f"interval, from n = {FEWEST} on: bootstrap over the n languages and seeds, {options.resamples} "
        "resamples.",
        "MODEL and each single λ are chosen by nobody: they are there to compare.",
    ]
    if split == "dev":
        notes.append(
            "The grid was not scored on test data, so `labels` and the best score read the same ones."
        )
    if set(by_name) & {*NAMES}:
        notes.append("`labels` alone reads labels of the language that is chosen for.")
    if any(name.endswith(PER_GROUP) for name in by_name):
        notes.append(
            "Per group: λ of embeddings and of layers in thirds, searched from the same criterion's single λ "
            "on; beside the grid's best single λ, so that a loss below 0 is a gain over all of them."
        )
    detail = ("Chosen by", "Language", "Seed", "λ", "Score", "Best λ", "Best", "Loss", "MODEL")
    return [
        Heading(3, f"{study.title}, {table_name_of(variant)}: what choosing λ costs, {SPLITS[split]}"),
        Table(f"regret_{stem}", header, tuple(rows)),
        *bullets(notes),
        Table(f"regrets_{stem}", detail, tuple(single)),
    ]


def _interval(losses: Sequence[float], options: Options) -> tuple[float, ...]:
    if len(losses) < FEWEST:
        return ()
    rng = np.random.default_rng(options.seed)
    draws = rng.choice(np.array(losses), size=(options.resamples, len(losses))).mean(axis=1)
    return tuple(float(end) for end in np.quantile(draws, [0.025, 0.975]))
