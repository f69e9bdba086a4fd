"""λ on validation data, then one test run: sweeps of a kind of rows in the order of the protocol.

For each row and language the λ with the best mean validation score over the seeds is taken. Test scores come
last and choose nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import rows
from languages import NUSAX
from runner import Runner

from taxlt_mergekit.cells.selection import best_parameters, grid
from taxlt_mergekit.cells.store import Cell, Parameters, read_cells
from taxlt_mergekit.paper.variants import MODEL

Point = tuple[str, str]  # a row's variant, and a language
RESULTS, REGRET = "results", "regret"


class Search:
    """The sweeps of a group of languages.

    Attributes:
        run: the folder.
        languages: of the group.
        place: of its recipes and results, below the folder.
        weights: the grid of λ, in place of a kind's own; then searches by group are short, too.
    """

    def __init__(self, run: Runner, languages: rows.Languages, place: str, weights: str | None) -> None:
        self.run, self.languages, self.place, self._weights = run, languages, place, weights
        self._trials = ("--trials", 2) if weights else ()
        self._recipes: dict[tuple[str, int], dict[str, str]] = {}

    def search(self, kind: str, seed: int, task: str) -> None:
        """Score a kind's recipes of one seed over the grid, on validation data."""
        paths = rows.write(
            self.run.folder, f"{self.place}/recipes/seed-{seed}", kind, self.languages, seed, task
        )
        self._recipes[kind, seed] = paths
        if paths:
            flags = (*self._grid(kind), *rows.KINDS[kind].more)
            self._sweep(f"λ on validation data, seed {seed}", kind, seed, paths.values(), flags)

    def densities(self, seed: int) -> None:
        """Score +TGT at the chosen λ over densities, largest and smallest entries, on validation data."""
        more = ("--density", rows.DENSITIES, "--select", "top", "--select", "bottom")
        for point, paths in self._at_choices("target", seed):
            self._sweep("densities", "density", seed, paths, (*point, *more))

    def test(self, kind: str, seed: int) -> None:
        """Score MODEL and a kind's recipes at their chosen points on the test data."""
        for point, paths in self._at_choices(kind, seed):
            self._sweep("test", kind, seed, paths, (*point, "--test"))

    def regret(self, seed: int) -> None:
        """What each choice of λ for +TGT costs: by every criterion, the whole grid on the test data, and by
        group. It chooses nothing for other rows.
        """
        paths, grid = self._recipes["target", seed].values(), self._grid("target")

        def sweep(stage: str, *more: object) -> None:
            self._sweep(stage, "target", seed, paths, (*grid, *map(str, more)), REGRET)

        sweep("λ by every criterion", "--select-by", "balance")
        sweep("every λ on the test data", "--tasks", f"{NUSAX.group}_{{language}}")
        for criterion in ("balance", "labels"):
            by_group = ("--select-by", criterion, "--per-group", "--test", *self._trials)
            sweep("λ by group", *by_group)

    def cells(self, kind: str) -> list[Cell]:
        """Of all seeds."""
        folders = sorted((self.run.folder / self.place / RESULTS).glob(f"seed-*/{kind}"))
        return [cell for folder in folders for cell in read_cells(folder)]

    def chosen(self, kind: str) -> Mapping[Point, Parameters]:
        """The best point of each row and language on validation data, over all seeds that were searched."""
        cells: dict[Point, list[Cell]] = defaultdict(list)
        for cell in self.cells(kind):
            if cell.split == "dev" and cell.variant != MODEL and cell.language:
                cells[cell.variant, cell.language].append(cell)
        found = {key: best_parameters(grid(of_row)) for key, of_row in cells.items()}
        return {key: point for key, point in found.items() if point is not None}

    def _grid(self, kind: str) -> Sequence[str]:
        return ("--weight", self._weights or rows.KINDS[kind].weights)

    def _at_choices(self, kind: str, seed: int) -> Iterator[tuple[Sequence[str], list[str]]]:
        """Flags of a point, and the recipes that are to be scored there."""
        cells = [cell for cell in self.cells(kind) if cell.seed == seed and cell.recipe]
        rows_of = {cell.recipe: (cell.variant, str(cell.language)) for cell in cells if cell.variant != MODEL}
        chosen = self.chosen(kind)
        paths: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path in self._recipes[kind, seed].values():
            paths[_flags(chosen[rows_of[path]])].append(path)
        yield from paths.items()

    def _sweep(
        self,
        stage: str,
        kind: str,
        seed: int,
        paths: Iterable[str],
        flags: Sequence[str],
        of: str = RESULTS,
    ) -> None:
        output = f"{self.place}/{of}/seed-{seed}/{kind}"
        more = ("--select-per", "language", "--seed", seed, "--output", output)
        self.run.taxlt(stage, "sweep", *paths, *flags, *more)


def _flags(point: Parameters) -> tuple[str, ...]:
    """A point as flags of a sweep; source and target have one λ."""
    weight = point.target_weight if point.source_weight is None else point.source_weight
    density = () if point.density in (None, 1.0) else ("--density", f"{point.density:g}")
    return ("--weight", f"{weight:g}", *density)
