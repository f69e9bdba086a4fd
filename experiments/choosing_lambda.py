"""Every way of choosing λ on the demo's worlds: its regret, by language and seed.

    taxlt demo --output demo-8 --seed 1 --seeds 8
    python experiments/choosing_lambda.py demo-8/seed-* --output choosing-8 --keep experiments/choosing-lambda

sweeps the +TGT recipes of finished demos over λ, once on validation documents with all criteria and a search
by group, once on test documents for the oracle, adds what `rejected.py` computes, and has `taxlt report`
write the tables to OUTPUT/report. --keep writes what the table of losses is made of, and no more, as files
that `taxlt report` reads. Started again it goes on where it was. For other sweeps there is nothing to run but

    taxlt sweep RECIPE… --select-by balance --per-group --test --output results/choice
    taxlt sweep RECIPE… --tasks TEST_TASKS --output results/oracle
    taxlt report results
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from worlds import run, seed_of, taxlt

from taxlt_mergekit.cells.choices import CHOICES_FILE, choices_below
from taxlt_mergekit.cells.lines import Record
from taxlt_mergekit.cells.store import CELLS_FILE, Seconds, read_cells
from taxlt_mergekit.demo import files
from taxlt_mergekit.paper.variants import is_per_group

WEIGHTS = "0.1:1.2:0.1"
REJECTED = Path(__file__).with_name("rejected.py")


@click.command()
@click.argument("demos", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("choosing-8"), show_default=True)
@click.option("--weight", default=WEIGHTS, show_default=True, help="As for taxlt sweep.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for what the table is made of.")
def main(demos: Sequence[Path], output: Path, weight: str, keep: Path | None) -> None:
    """Sweep finished DEMOS, one a seed, and write the tables."""
    output = output.resolve()
    recipes = [files.recipe_file("plus_tgt", code) for code in files.TARGETS]
    for demo in demos:
        demo = demo.resolve()
        seed = seed_of(demo)
        place = output / f"seed-{seed}"
        options = ("--weight", weight, "--select-per", "language", "--seed", seed)
        dev, test = files.task("{language}", "dev"), files.task("{language}")
        for criterion in ("balance", "labels"):
            search = ("--select-by", criterion, "--per-group", "--test", "--test-tasks", test)
            _sweep(demo, recipes, place / "choice", *options, "--tasks", dev, *search)
        _sweep(demo, recipes, place / "oracle", *options, "--tasks", test)
        source = output / "source" / f"seed-{seed}"  # apart: scores of another language than the recipe's
        _sweep(demo, recipes, source, *options, "--tasks", files.task(files.SOURCE, "dev"))
        run(demo, sys.executable, REJECTED, place / "choice", source)
    folders = [output / f"seed-{seed_of(demo)}" for demo in demos]
    taxlt(output, "report", *folders, "--output", output / "report")
    if keep:
        _keep(folders, keep)


def _keep(folders: Sequence[Path], place: Path) -> None:
    """Write test scores and choices, without documents and times, and trials' curves, which nothing reads."""
    cells = {
        (cell.seed, cell.task, cell.variant, cell.parameters.dense): cell
        for folder in folders
        for file in sorted(folder.rglob(CELLS_FILE))
        for cell in read_cells(file.parent)
        if cell.split == "test"
    }
    bare = {"documents": None, "coverage": None, "seconds": Seconds(), "versions": {}}
    _write(place / CELLS_FILE, [cell.model_copy(update=bare) for cell in cells.values()])
    choices = choices_below(folders)
    short = [c.model_copy(update={"curve": ()} if is_per_group(c.variant) else {}) for c in choices]
    _write(place / CHOICES_FILE, short)


def _write(path: Path, records: Sequence[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record.model_copy(update={"key": str(number)}) for number, record in enumerate(records)]
    text = [f'{{"format":1,{line.model_dump_json(exclude_defaults=True)[1:]}\n' for line in lines]
    path.write_text("".join(text), encoding="utf-8")


def _sweep(demo: Path, recipes: Sequence[str], output: Path, *more: object) -> None:
    taxlt(demo, "sweep", *recipes, "--include_path", files.TASKS, "--output", output, *more)


if __name__ == "__main__":
    main()
