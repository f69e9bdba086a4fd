"""What choosing by criteria adds to a sweep: `taxlt sweep` with all of them beside the same sweep without.

    taxlt demo --output demo
    python benchmarks/criteria.py demo

In a finished demo, whose forward passes are so short that other work weighs most. Three sweeps take turns,
round after round, each a process of its own with an output of its own:

1. labels: λ by validation labels alone;
2. all criteria: the same with `--select-by balance`, so that every criterion is computed and kept;
3. text: all criteria that need no labels, with the validation tasks' texts as `--text` in the tasks' place.

Of each the medians of processor and of wall seconds, and the ratio to the first. Processor seconds
are what to go by where other work shares the machine.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from taxlt_mergekit.demo import files
from taxlt_mergekit.demo.stages import ENVIRONMENT

BAR = 1.15
WEIGHTS = "0.1:1.2:0.1"


def timed(command: list[str], cwd: Path) -> tuple[float, float]:
    """Processor seconds and wall seconds of one process."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=os.environ | ENVIRONMENT, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if status:
            said.seek(0)
            raise click.ClickException(f"{' '.join(command)}: {said.read()[-2000:].decode()}")
    return used.ru_utime + used.ru_stime, wall


def sweeps(demo: Path, folder: Path, weight: str) -> dict[str, list[str]]:
    """What is measured, by name: arguments of `taxlt sweep` but for its output."""
    recipes = [files.recipe_file("plus_tgt", code) for code in files.TARGETS]
    for code in files.TARGETS:
        rows = (demo / files.rows_file(code, "validation")).read_text(encoding="utf-8").splitlines()
        texts = [json.loads(row)["text"] for row in rows]
        (folder / f"{code}.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    common = [*recipes, "--weight", weight, "--select-per", "language"]
    tasks = ["--tasks", files.task("{language}", "dev"), "--include_path", files.TASKS]
    by_balance = ["--select-by", "balance"]
    return {
        "labels": [*common, *tasks],
        "all criteria": [*common, *tasks, *by_balance],
        "text": [*common, "--text", str(folder / "{language}.txt"), *by_balance],
    }


@click.command(help=__doc__.splitlines()[0])
@click.argument("demo", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--weight", default=WEIGHTS, show_default=True, help="As for taxlt sweep.")
def main(demo: Path, rounds: int, weight: str) -> None:
    program = str(Path(sys.executable).with_name("taxlt"))
    measured: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, output = Path(temporary), Path(temporary) / "results"
        for _ in range(rounds):
            for name, arguments in sweeps(demo, folder, weight).items():
                command = [program, "sweep", *arguments, "--output", str(output)]
                measured.setdefault(name, []).append(timed(command, demo))
                shutil.rmtree(output)
    medians = {
        name: tuple(map(statistics.median, zip(*seconds, strict=True))) for name, seconds in measured.items()
    }
    first = next(iter(medians.values()))
    click.echo(f"{rounds} rounds, medians in seconds:")
    for name, (cpu, wall) in medians.items():
        spread = f"{min(c for c, _ in measured[name]):.2f} to {max(c for c, _ in measured[name]):.2f}"
        click.echo(
            f"{name:<14} processor {cpu:6.2f} ({spread})  ratio {cpu / first[0]:.3f}   "
            f"wall {wall:6.2f}  ratio {wall / first[1]:.3f}   (bar: {BAR})"
        )


if __name__ == "__main__":
    main()
