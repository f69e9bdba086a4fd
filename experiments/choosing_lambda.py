"""Every criterion of choosing λ on the demo's worlds: its regret, by language and seed.

    taxlt demo --output demo-8 --seed 1 --seeds 8
    python experiments/choosing_lambda.py demo-8/seed-* --output choosing-8

sweeps the +TGT recipes of finished demos over λ, once on validation documents with all criteria, once on test
documents for the oracle, adds what `rejected.py` computes, and has `taxlt report` write the tables to
OUTPUT/report. Started again it goes on where it was. For other sweeps there is nothing to run but

    taxlt sweep RECIPE… --select-by balance --output results/choice
    taxlt sweep RECIPE… --tasks TEST_TASKS --output results/oracle
    taxlt report results
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from worlds import run, seed_of, taxlt

from taxlt_mergekit.demo import files

WEIGHTS = "0.1:1.2:0.1"
REJECTED = Path(__file__).with_name("rejected.py")


@click.command()
@click.argument("demos", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("choosing-8"), show_default=True)
@click.option("--weight", default=WEIGHTS, show_default=True, help="As for taxlt sweep.")
def main(demos: Sequence[Path], output: Path, weight: str) -> None:
    """Sweep finished DEMOS, one a seed, and write the tables."""
    output = output.resolve()
    recipes = [files.recipe_file("plus_tgt", code) for code in files.TARGETS]
    for demo in demos:
        demo = demo.resolve()
        seed = seed_of(demo)
        place = output / f"seed-{seed}"
        options = ("--weight", weight, "--select-per", "language", "--seed", seed)
        for name, tasks, more in (
            ("choice", files.task("{language}", "dev"), ("--select-by", "balance")),
            ("oracle", files.task("{language}"), ()),
        ):
            _sweep(demo, recipes, place / name, *options, "--tasks", tasks, *more)
        source = output / "source" / f"seed-{seed}"  # apart: scores of another language than the recipe's
        _sweep(demo, recipes, source, *options, "--tasks", files.task(files.SOURCE, "dev"))
        run(demo, sys.executable, REJECTED, place / "choice", source)
    folders = [output / f"seed-{seed_of(demo)}" for demo in demos]
    taxlt(output, "report", *folders, "--output", output / "report")


def _sweep(demo: Path, recipes: Sequence[str], output: Path, *more: object) -> None:
    taxlt(demo, "sweep", *recipes, "--include_path", files.TASKS, "--output", output, *more)


if __name__ == "__main__":
    main()
