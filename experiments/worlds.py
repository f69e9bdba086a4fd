"""What experiments on the demo's finished worlds share: whose seed a world is, and `taxlt` in its folder."""

import os
import subprocess
from pathlib import Path

import click

from taxlt_mergekit.demo import files
from taxlt_mergekit.demo.stages import ENVIRONMENT, MARK


def seed_of(world: Path) -> int:
    """The seed that a world's commands were written for."""
    first = (world / files.COMMANDS).read_text(encoding="utf-8").splitlines()[0]
    return int(first.removeprefix(f"{MARK}, seed ").partition(":")[0])


def taxlt(folder: Path, *words: object) -> None:
    """Run `taxlt` in a folder; ends the script where it fails."""
    run(folder, "taxlt", *words)


def run(folder: Path, *words: object) -> None:
    """Run a command in a folder, with the demo's environment; ends the script where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    command = list(map(str, words))
    click.echo(f"$ {' '.join(command)}"[:200])
    done = subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, check=False)
    if done.returncode:
        raise SystemExit(f"failed (exit code {done.returncode}); the same command goes on from there")
