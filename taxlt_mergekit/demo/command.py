"""`taxlt demo`: the method in miniature, from nothing, in a few minutes."""

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
    from taxlt_mergekit.demo import stages as demo
    from taxlt_mergekit.demo.results import read_outcome

    started = time.monotonic()
    demo.prepare(output, overwrite)
    numbers = range(seed, seed + seeds)
    folders = [output if seeds == 1 else output / f"seed-{number}" for number in numbers]
    outcomes = []
    for number, folder in zip(numbers, folders, strict=True):
        if seeds > 1:
            click.echo(f"seed {number}, in {folder}")
            try:
                folder.mkdir()
            except OSError as error:
                raise UserError(f"{folder} cannot be made: {error.strerror}") from None
        demo.run(folder, number, click.echo)
        outcomes.append(read_outcome(folder, number))
    click.echo(_summary(output, folders, outcomes))
    click.echo(f"{time.monotonic() - started:.0f} s in all")


def _summary(output: Path, folders: list[Path], outcomes: list) -> str:
    """What is shown at the end; draws the picture too."""
    from taxlt_mergekit.demo import files, results

    picture = output / "scaling_factor.png"
    try:
        results.figure(results.curves(folders)).savefig(picture)
    except OSError as error:
        raise UserError(f"{picture} cannot be written: {error.strerror or error}") from None
    first = folders[0]
    lines = ["", "Test accuracy in percent, with the λ that validation data chose:", ""]
    lines += [results.table(outcomes), ""]
    source = sum(outcome.source for outcome in outcomes) / len(outcomes)
    lines.append(f"MODEL on {results.NAMES[files.SOURCE]}, the language of its labels: {source:.1f}")
    lines.append("control: the other target's vector in place of its own")
    lines.append("lm_eval's scores of the merged models are the sweep's to the last digit")
    lines += ["", "The first test sentence of each language on which MODEL and MODEL + TGT differ:"]
    for code in (files.SOURCE, *files.TARGETS):
        example = outcomes[0].examples[code]
        answers = f"MODEL says {example.model}"
        answers += f", MODEL + TGT {example.merged}" if example.merged else ""
        lines += [
            f"  {results.NAMES[code]}: {example.text}",
            f"    “{example.gloss}”, which is {example.label}",
        ]
        lines += [f"    {answers}"]
    lines += [
        "",
        "Where it lies:",
        f"  {picture}  score by λ",
        f"  {first / 'commands.sh'}  every command, to be run in {first}",
        f"  {first / 'data'}, {first / 'tasks'}, {first / 'recipes'}  what the commands read",
        f"  {first / files.BASE}, {first / 'vectors'}, {first / 'merged'}  checkpoints",
        f"  {first / 'results'}, {first / 'control'}, {first / 'scores'}  of taxlt sweep and lm_eval",
        f"  more tables: taxlt report {first / 'results'} --select-per language",
    ]
    return "\n".join(lines)
