"""Every merge method on the demo's worlds: λ and density chosen on validation data, one test run, one table.

    python experiments/methods.py --output methods-8 --seed 1 --seeds 8

makes a world a seed (`taxlt demo`) where OUTPUT has none, sweeps +TGT recipes of all methods in it, chooses
for each method the point with the best mean over seeds and languages, tests that point on every seed, and has
`taxlt report` write the table with its intervals to OUTPUT/report. Started again it goes on where it was.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from worlds import taxlt

from taxlt_mergekit.cells.selection import best_parameters, complete, grid
from taxlt_mergekit.cells.store import CELLS_FILE, Cell, Parameters, read_cells
from taxlt_mergekit.demo import files
from taxlt_mergekit.demo.stages import training
from taxlt_mergekit.merge.methods.table import METHODS

WEIGHTS, DENSITIES = "0.2:1.0:0.2", "0.3,1"
RECIPES, SOUP, FISHER = "methods", 3, 1000


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("methods-8"), show_default=True)
@click.option(
    "--worlds", type=click.Path(path_type=Path), help="Folder of `taxlt demo`'s runs. [OUTPUT/worlds]"
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The first.")
@click.option("--seeds", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--methods", help="Comma-separated, such as xlt_ties,xlt_sce.  [all]")
@click.option(
    "--soup", is_flag=True, help=f"Train {SOUP - 1} more task models a world, and average all {SOUP}."
)
@click.option("--weight", default=WEIGHTS, show_default=True, help="As for taxlt sweep.")
@click.option("--density", default=DENSITIES, show_default=True, help="As for taxlt sweep.")
def main(
    output: Path,
    worlds: Path | None,
    seed: int,
    seeds: int,
    methods: str | None,
    soup: bool,
    weight: str,
    density: str,
) -> None:
    """Run what is missing and write the table."""
    output = output.resolve()
    worlds = worlds.resolve() if worlds else output / "worlds"
    names = methods.split(",") if methods else list(METHODS)
    every = {number: worlds / f"seed-{number}" for number in range(seed, seed + seeds)}
    for number, world in every.items():
        if not (world / files.SCORES).exists():
            taxlt(output, "demo", "--output", world, "--seed", number, "--overwrite")
        if soup:
            for k in range(1, SOUP):
                _train_again(world, number, files.TASK, f"{files.TASK}-{k}", "--seed", number + 1000 * k)
        if "xlt_fisher" in names:
            for name in (files.TASK, *files.TARGETS):
                _train_again(world, number, name, f"{name}-fisher", "--fisher", FISHER)
    recipes = {number: _write_recipes(world, names, soup) for number, world in every.items()}
    results = {number: output / "results" / f"seed-{number}" for number in every}
    for number, world in every.items():
        # The paper's own methods are shown dense; density is one more parameter of the others.
        apart = defaultdict(list)
        for path in recipes[number]:
            apart["density" if "xlt_" in path else "dense"].append(path)
        for kind, paths in apart.items():
            more = ("--density", density) if kind == "density" else ()
            _sweep(world, results[number] / kind, number, paths, "--weight", weight, *more)
    cells = [cell for folder in results.values() for cell in _cells(folder)]
    chosen = {variant: _best(cells, variant) for variant in {c.variant for c in cells} - {"model"}}
    for number, world in every.items():
        for point, kind, paths in _untested(results[number], chosen):
            _sweep(world, results[number] / kind, number, paths, *_flags(point), "--test")
    taxlt(output, "report", *results.values(), "--split", "test", "--output", output / "report")


def _write_recipes(world: Path, methods: Sequence[str], soup: bool) -> list[str]:
    """+TGT by every method, and −SRC+TGT; paths below the world."""
    (world / RECIPES).mkdir(exist_ok=True)
    written = []
    for code in files.TARGETS:
        for name in methods:
            variant = "minus_src_plus_tgt" if name == "xlt_analogy" else "plus_tgt"
            document = yaml.safe_load(files.recipe(variant, code))
            if name not in ("xlt_additive", "xlt_analogy"):
                document = _of(name, document)
                variant += f".{name}"
            written.append(_write(world, f"{code}_{variant}", document))
        if soup:
            names = [files.TASK, *(f"{files.TASK}-{k}" for k in range(1, SOUP))]
            models = [files.vector("task", name) for name in names]
            entries = [{"model": m, "parameters": {"role": "task", "weight": 1.0}} for m in models]
            document = {"merge_method": "xlt_linear", "base_model": files.BASE, "dtype": "float32"}
            written.append(_write(world, f"{code}_plus_tgt.xlt_soup", document | {"models": entries}))
    return written


def _of(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """A recipe of an xlt_additive one's models by another method."""
    document["merge_method"] = name
    has_weight = "weight" in METHODS[name].per_model
    for entry in document["models"]:
        role = entry["parameters"]["role"]
        entry["parameters"] = {"role": role} | ({"weight": 1.0} if has_weight else {})
        if name == "xlt_fisher":
            entry["model"] += "-fisher"
    return document


def _write(world: Path, stem: str, document: dict[str, Any]) -> str:
    path = f"{RECIPES}/{stem}.yml"
    (world / path).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def _train_again(world: Path, seed: int, name: str, again: str, *more: object) -> None:
    """The world's own command of a vector, with another output and flags that stand after its own."""
    output = files.vector("task" if name == files.TASK else "lang", again)
    if not (world / output / "config.json").exists():
        command = training(seed, name).command
        taxlt(world, *command[1:], "--output", output, *more, "--resume")


def _cells(folder: Path) -> Iterator[Cell]:
    for file in sorted(folder.rglob(CELLS_FILE)):
        yield from read_cells(file.parent)


def _best(cells: Iterable[Cell], variant: str) -> Parameters:
    """The point of the best mean over seeds and languages on validation data (the paper's protocol)."""
    found = best_parameters(complete(grid(c for c in cells if (c.variant, c.split) == (variant, "dev"))))
    assert found is not None, variant
    return found


def _untested(folder: Path, chosen: dict[str, Parameters]) -> Iterator[tuple[Parameters, str, list[str]]]:
    """Recipes of one world that are not tested at their method's point: point, kind, paths."""
    for kind in ("dense", "density"):
        cells = list(_cells(folder / kind))
        tested = {cell.recipe for cell in cells if cell.split == "test" and cell.variant != "model"}
        wanted: dict[Parameters, set[str]] = defaultdict(set)
        for cell in cells:
            if cell.variant in chosen and cell.recipe and cell.recipe not in tested:
                wanted[chosen[cell.variant]].add(cell.recipe)
        for point, paths in wanted.items():
            yield point, kind, sorted(paths)


def _flags(point: Parameters) -> list[object]:
    """A point as flags of a sweep; without λ the recipe has none to vary."""
    flags: list[object] = []
    for name in ("source_weight", "target_weight", "density"):
        if (value := getattr(point, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", value]
    if point.source_weight is not None and point.source_weight == point.target_weight:
        flags = ["--weight", point.source_weight]
    return flags or ["--weight", 1]


def _sweep(world: Path, output: Path, seed: int, recipes: Sequence[str], *more: object) -> None:
    tasks = ("--tasks", files.task("{language}", "dev"), "--test-tasks", files.task("{language}"))
    place = ("--include_path", files.TASKS, "--output", output, "--seed", seed)
    taxlt(world, "sweep", *recipes, *tasks, *place, *more)


if __name__ == "__main__":
    main()
