"""Runs the demo's stages in the folder that it makes.

Everything is done by the product's and its hosts' own commands, in processes of their own. Stages that do not
need each other run two at a time, each on one thread: so two cores are used, and equal seeds give equal
weights.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from taxlt_mergekit.demo import files
from taxlt_mergekit.demo.stages import ENVIRONMENT, MARK, Stage, commands_script, stages
from taxlt_mergekit.errors import UserError

AT_A_TIME = 2


def prepare(folder: Path, overwrite: bool) -> None:
    """Make the demo's folder, empty but for the mark that tells it from others.

    Raises:
        UserError: it holds a demo and `overwrite` is off, it holds something else, or it cannot be written.
    """
    commands = folder / files.COMMANDS
    try:
        held = list(folder.iterdir()) if folder.exists() else []
        if held and not (commands.is_file() and MARK in commands.read_text("utf-8", "replace")):
            raise UserError(f"--output {folder} holds something that is not a demo; choose another folder")
        if held and not overwrite:
            raise UserError(
                f"--output {folder} already holds a demo; add --overwrite, or choose another folder"
            )
        # The mark goes last, so that what an interruption leaves can be overwritten too.
        for path in sorted(held, key=lambda path: path == commands):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        commands.write_text(f"{MARK}: the commands of each seed are in its own folder.\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {folder} cannot be used: {error.strerror or error}") from None


def run(folder: Path, seed: int, console: Console) -> None:
    """Write the inputs of one seed and run every command on them.

    Args:
        folder: an empty folder, which becomes every command's working directory.
        seed: of the languages, the texts and all training.
        console: gets each command and its end as lines; where it is a terminal, what is running stands below.

    Raises:
        UserError: a command failed, or nothing can be written; names the command and its log.
    """
    groups = stages(seed)
    try:
        console.out("writing texts, labelled rows, tasks, recipes and an untrained model")
        files.write_inputs(folder, seed)
        (folder / files.COMMANDS).write_text(commands_script(seed, groups), encoding="utf-8")
        (folder / "logs").mkdir()
        # In a process of its own, so that this one stays small while the commands run.
        command = (sys.executable, "-m", "taxlt_mergekit.demo.model", files.UNTRAINED, str(seed))
        _run_process(folder, command, folder / "logs/00.log", "an untrained model")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, refresh_per_second=4)
    with progress if console.is_interactive else nullcontext():
        _run_groups(folder, groups, progress)
    shutil.rmtree(folder / "cache", ignore_errors=True)


def _run_groups(folder: Path, groups: Sequence[Sequence[Stage]], progress: Progress) -> None:
    total = sum(map(len, groups))
    number = 0
    for group in groups:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            running = []
            for stage in group:
                number += 1
                log = folder / f"logs/{number:02}.log"
                running.append(pool.submit(_run_stage, folder, stage, f"[{number}/{total}]", log, progress))
            try:
                for future in running:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _run_stage(folder: Path, stage: Stage, label: str, log: Path, progress: Progress) -> None:
    progress.console.out(f"{label} {stage.title}\n      $ {stage}")
    shown = progress.add_task(f"{label} {stage.title}", total=None)
    started = time.monotonic()
    try:
        _run_process(folder, stage.command, log, stage.title)
    finally:
        progress.remove_task(shown)
    progress.console.out(f"{label} done in {time.monotonic() - started:.0f} s")


def _run_process(folder: Path, command: Sequence[str], log: Path, title: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cache = {"HF_HOME": str((folder / "cache").absolute())}
    environment = os.environ | ENVIRONMENT | cache | {"PATH": path}
    # What points Hugging Face's caches elsewhere would win over HF_HOME.
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    with log.open("w", encoding="utf-8") as output:
        program = shutil.which(command[0], path=path)
        if program is None:
            raise UserError(f"{title}: the command {command[0]} is not installed beside {sys.executable}")
        status = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        raise UserError(f"{title}: exit code {status}: {last} (log: {log})")
