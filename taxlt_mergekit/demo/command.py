"""`taxlt demo`: the method in miniature, from nothing, in a few minutes."""

import sys
import time
from pathlib import Path

import click

from taxlt_mergekit.errors import UserError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("taxlt-demo"),
    show_default=True,
    help="Folder to make.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The (first) seed.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs to average over."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in the folder.")
def command(output: Path, seed: int, seeds: int, overwrite: bool) -> None:
    """Show the whole method on made-up languages: train, merge, sweep, evaluate.

    Needs no data, no network and no GPU: a small model is pre-trained, learns a task in a source language
    and two target languages from raw text, and the vectors are added up. Every stage prints the command that
    it runs; the folder holds everything that went in and came out. Takes three to four minutes a seed on two
    cores.
    """
    from rich.console import Console

    from taxlt_mergekit.demo.results import read_outcome
    from taxlt_mergekit.demo.run import prepare, run
    from taxlt_mergekit.demo.summary import draw, summary

    started = time.monotonic()
    # Not left to rich, which takes a pipe for a terminal where the environment says FORCE_COLOR.
    console = Console(force_terminal=sys.stdout.isatty(), highlight=False)
    prepare(output, overwrite)
    numbers = range(seed, seed + seeds)
    folders = [output if seeds == 1 else output / f"seed-{number}" for number in numbers]
    outcomes = []
    for number, folder in zip(numbers, folders, strict=True):
        if seeds > 1:
            console.out(f"seed {number}, in {folder}")
            try:
                folder.mkdir()
            except OSError as error:
                raise UserError(f"{folder} cannot be made: {error.strerror}") from None
        run(folder, number, console)
        outcomes.append(read_outcome(folder, number))
    picture = output / "scaling_factor.png"
    draw(folders, picture)
    console.out(summary(folders, outcomes, picture))
    console.out(f"{time.monotonic() - started:.0f} s in all")
