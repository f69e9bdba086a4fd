"""λ on validation data, then one test run: sweeps of a kind of rows in the order of the protocol.

For each row and language the λ with the best mean validation score over the seeds is taken. Test scores come
last and choose nothing. What is to be known before that is looked at on NusaX's training split, which trains
nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import rows
from languages import NUSAX
from runner import Runner

from taxlt_mergekit.cells.selection import best_parameters, grid
from taxlt_mergekit.cells.store import Cell, Parameters, read_cells
from taxlt_mergekit.paper.tasks import task_folder
from taxlt_mergekit.paper.variants import MODEL

Point = tuple[str, str]  # a row's variant, and a language
TRAINING = "nusax_senti_train_{language}"


def results(seed: int, kind: str, of: str = "results") -> str:
    return f"{of}/seed-{seed}/{kind}"


class Search:
    """The sweeps of a group of languages.

    Attributes:
        run: the folder.
        languages: of the group.
        place: of its recipes and results, below the folder.
        weights: the grid of λ, in place of a kind's own.
    """

    def __init__(self, run: Runner, languages: rows.Languages, place: str, weights: str | None) -> None:
        self.run, self.languages, self.place, self._weights = run, languages, place, weights
        self._recipes: dict[tuple[str, int], dict[str, str]] = {}

    def search(self, kind: str, seed: int, task: str) -> None:
        """Score a kind's recipes of one seed over the grid, on validation data."""
        paths = rows.write(
            self.run.folder, f"{self.place}/recipes/seed-{seed}", kind, self.languages, seed, task
        )
        self._recipes[kind, seed] = paths
        flags = rows.KINDS[kind].search
        if self._weights and kind != "lt_sft":
            flags = ("--weight", self._weights, *flags[2:])
        if paths:
            self._sweep(f"λ on validation data, seed {seed}", kind, seed, paths.values(), flags)

    def densities(self, seed: int) -> None:
        """Score +TGT at the chosen λ over densities, largest and smallest entries, on validation data."""
        more = ("--density", rows.DENSITIES, "--select", "top", "--select", "bottom")
        for point, paths in self._at_choices("target", seed):
            self._sweep("densities", "density", seed, paths, (*point, *more))

    def look(self, kind: str, seed: int) -> None:
        """Score a kind's recipes at their chosen points on NusaX's training split."""
        for point, paths in self._at_choices(kind, seed):
            tasks = ("--tasks", TRAINING, "--include-path", _training_tasks(self.run.folder))
            self._sweep("training split", kind, seed, paths, (*point, *tasks), "looks")

    def test(self, kind: str, seed: int) -> None:
        """Score MODEL and a kind's recipes at their chosen points on the test data."""
        for point, paths in self._at_choices(kind, seed):
            self._sweep("test", kind, seed, paths, (*point, "--test"))

    def cells(self, kind: str, of: str = "results") -> list[Cell]:
        """Of all seeds."""
        folders = sorted((self.run.folder / self.place / of).glob(f"seed-*/{kind}"))
        return [cell for folder in folders for cell in read_cells(folder)]

    def chosen(self, kind: str) -> Mapping[Point, Parameters]:
        """The best point of each row and language on validation data, over all seeds that were searched."""
        cells: dict[Point, list[Cell]] = defaultdict(list)
        for cell in self.cells(kind):
            if cell.split == "dev" and cell.variant != MODEL and cell.language:
                cells[cell.variant, cell.language].append(cell)
        found = {key: best_parameters(grid(of_row)) for key, of_row in cells.items()}
        return {key: point for key, point in found.items() if point is not None}

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
        of: str = "results",
    ) -> None:
        output = f"{self.place}/{results(seed, kind, of)}"
        more = ("--select-per", "language", "--seed", seed, "--output", output)
        self.run.taxlt(stage, "sweep", *paths, *flags, *more)


def _flags(point: Parameters) -> tuple[str, ...]:
    """A point as flags of a sweep; source and target have one λ."""
    weight = point.target_weight if point.source_weight is None else point.source_weight
    density = () if point.density in (None, 1.0) else ("--density", f"{point.density:g}")
    return ("--weight", f"{weight:g}", *density)


def _training_tasks(folder: Path) -> str:
    """NusaX's validation tasks, on the training split."""
    place, of_package = folder / "tasks", Path(task_folder()) / NUSAX.group
    if not place.exists():
        place.mkdir()
        for path in of_package.glob("*.py"):
            (place / path.name).write_bytes(path.read_bytes())
        (place / f"{NUSAX.group}_common_yaml").write_bytes(
            (of_package / f"{NUSAX.group}_common_yaml").read_bytes()
        )
        for code in NUSAX.languages:
            text = (of_package / f"{NUSAX.group}_dev_{code}.yaml").read_text("utf-8")
            text = text.replace(f"{NUSAX.group}_dev_", f"{NUSAX.group}_train_")
            text = text.replace("test_split: validation", "test_split: train")
            (place / f"{NUSAX.group}_train_{code}.yaml").write_text(text, encoding="utf-8")
    return place.name
