"""The whole method from nothing: the demo's stages, each of them a command that a user could type.

Everything is done by the product's and its hosts' own commands, in processes of their own, in the demo's
folder. Stages that do not need each other run two at a time, each on one thread: so two cores are used, and
equal seeds give equal weights.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from taxlt_mergekit.demo import files, world
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.variants import VARIANTS

AT_A_TIME = 2
COMMANDS_FILE = "commands.sh"
MARK = "# Written by taxlt demo"
WEIGHTS = "0.1:1.0:0.1"
# One thread a process, no network, no GPU: what makes two runs the same, on any machine of one kind.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@dataclass(frozen=True)
class Stage:
    """One command, and what it is for."""

    title: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.command)


def stages(seed: int) -> list[list[Stage]]:
    """All commands, in groups: those of one group need only what earlier groups made."""
    names = {plan.code: plan.name for plan in (world.SOURCE, *world.TARGETS)}
    pretraining = [f"data/pretraining/{code}.txt" for code in files.PRETRAINED]
    return [
        [
            Stage(
                f"θ₀: pre-train on {len(pretraining)} languages, the targets not among them",
                _command(
                    f"taxlt train language {files.UNTRAINED} --corpus {' '.join(pretraining)}",
                    f"--output {files.BASE} --max-steps 2000 --batch-size 48 --block-size 32",
                    "--mlm-probability 0.25 --learning-rate 3e-3 --warmup-steps 100 --eval-steps 500",
                    f"--seed {seed}",
                ),
            )
        ],
        [
            Stage(
                f"task vector: {files.TASK}, labelled in {names[files.SOURCE]} alone",
                _command(
                    f"taxlt train task {files.BASE} --train {files.rows_file(files.SOURCE, 'train')}",
                    f"--validation {files.rows_file(files.SOURCE, 'validation')} --columns text",
                    f"--labels {','.join(world.LABELS)} --name {files.TASK} --max-steps 400 --batch-size 32",
                    "--learning-rate 5e-4 --eval-steps 100 --metric-for-best-model loss --max-length 64",
                    f"--seed {seed}",
                ),
            ),
            *(
                Stage(
                    f"language vector: {names[code]}, from raw text",
                    _command(
                        f"taxlt train language {files.BASE} --corpus data/text/{code}.txt --lang {code}",
                        "--max-steps 500 --batch-size 48 --block-size 32 --mlm-probability 0.25",
                        f"--learning-rate 2e-3 --eval-steps 250 --seed {seed}",
                    ),
                )
                for code in names
            ),
        ],
        [
            Stage(
                "λ of every variant, chosen on validation data, then tested once",
                _sweep(
                    [files.recipe_file(variant, code) for variant in VARIANTS for code in files.TARGETS],
                    "results",
                    seed,
                ),
            ),
            Stage(
                "control: the same with the other target's vector",
                _sweep(
                    [files.recipe_file("plus_tgt", code, control=True) for code in files.TARGETS],
                    "control/results",
                    seed,
                ),
            ),
        ],
        [
            Stage(
                f"merge the chosen recipe of {names[code]}",
                _command(f"mergekit-yaml results/best/{code}_plus_tgt.yml merged/{code}"),
            )
            for code in files.TARGETS
        ],
        [
            Stage(
                "score MODEL on all languages",
                _lm_eval(files.vector("task", files.TASK), [files.SOURCE, *files.TARGETS], "model"),
            ),
            *(
                Stage(f"score the merged model of {names[code]}", _lm_eval(f"merged/{code}", [code], code))
                for code in files.TARGETS
            ),
        ],
    ]


def _command(*parts: str) -> tuple[str, ...]:
    return tuple(shlex.split(" ".join(parts)))


def _sweep(recipes: Sequence[str], output: str, seed: int) -> tuple[str, ...]:
    return _command(
        f"taxlt sweep {' '.join(recipes)} --weight {WEIGHTS} --select-per language --test",
        "--tasks demo_dev_{language} --test-tasks demo_{language} --include_path tasks",
        f"--output {output} --seed {seed}",
    )


def _lm_eval(model: str, codes: Sequence[str], name: str) -> tuple[str, ...]:
    return _command(
        f"lm_eval --model hf-seq-cls --model_args pretrained={model}",
        f"--tasks {','.join(f'demo_{code}' for code in codes)} --include_path tasks --batch_size 32",
        f"--output_path scores/{name} --log_samples",
    )


def prepare(folder: Path, overwrite: bool) -> None:
    """Make the demo's folder, empty but for the mark that tells it from others.

    Raises:
        UserError: it holds a demo and `overwrite` is off, it holds something else, or it cannot be written.
    """
    commands = folder / COMMANDS_FILE
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


def run(folder: Path, seed: int, say: Callable[[str], None]) -> None:
    """Write the inputs of one seed and run every command on them.

    Args:
        folder: an empty folder, which becomes every command's working directory.
        seed: of the languages, the texts and all training.
        say: prints a line.

    Raises:
        UserError: a command failed, or nothing can be written; names the command and its log.
    """
    groups = stages(seed)
    try:
        say("writing texts, labelled rows, tasks, recipes and an untrained model")
        files.write_inputs(folder, seed)
        (folder / COMMANDS_FILE).write_text(commands_script(seed, groups), encoding="utf-8")
        (folder / "logs").mkdir()
        _write_untrained(folder, seed)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    total = sum(map(len, groups))
    number = 0
    for group in groups:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            running = []
            for stage in group:
                number += 1
                running.append(pool.submit(_run_stage, folder, stage, f"[{number}/{total}]", number, say))
            try:
                for future in running:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    shutil.rmtree(folder / "cache", ignore_errors=True)


def commands_script(seed: int, groups: Sequence[Sequence[Stage]]) -> str:
    """What was run, as a shell script for the demo's folder."""
    lines = [f"{MARK}, seed {seed}: what it ran, in this folder, with these settings:", ""]
    lines += [f"export {name}={value}" for name, value in ENVIRONMENT.items()]
    for stage in (stage for group in groups for stage in group):
        lines += ["", f"# {stage.title}", str(stage)]
    return "\n".join(lines) + "\n"


def _write_untrained(folder: Path, seed: int) -> None:
    """In a process of its own, so that this one stays small while the commands run."""
    code = (
        "import sys; from pathlib import Path; from taxlt_mergekit.demo import files, model; "
        "model.write_untrained(Path(sys.argv[1]), files.vocabulary(int(sys.argv[2])), "
        "int(sys.argv[2]))"
    )
    command = (sys.executable, "-c", code, files.UNTRAINED, str(seed))
    _run_process(folder, command, folder / "logs/00.log", "an untrained model")


def _run_stage(folder: Path, stage: Stage, label: str, number: int, say: Callable[[str], None]) -> None:
    say(f"{label} {stage.title}\n      $ {stage}")
    started = time.monotonic()
    _run_process(folder, stage.command, folder / f"logs/{number:02}.log", stage.title)
    say(f"{label} done in {time.monotonic() - started:.0f} s")


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
