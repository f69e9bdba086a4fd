"""Runs the hosts' real commands in processes of their own and returns what a user would see."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line on standard error, where a command names what is wrong."""
        return self.stderr.strip().splitlines()[-1] if self.stderr.strip() else ""


def console(*command: object, cwd: Path | None = None, **env: str) -> Outcome:
    """Run a console script of this environment, `mergekit-yaml` say, exactly as a shell would."""
    program, *arguments = map(str, command)
    done = subprocess.run(
        [str(BIN / program), *arguments],
        cwd=cwd,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def mergekit_yaml(*arguments: object, cwd: Path | None = None) -> Outcome:
    """As console("mergekit-yaml", …), by `forked`."""
    return forked("mergekit-yaml", *arguments, cwd=cwd)


def forked(program: str, *arguments: object, cwd: Path | None = None, **env: str) -> Outcome:
    """As `console`, in a process that is forked from one that has the hosts imported.

    Importing them takes seconds; with it done once, each of many commands can have its own process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "mergekit.scripts.run_yaml",
            "taxlt_mergekit.merge.run",
            "taxlt_mergekit.report.build",
            "taxlt_mergekit.report.html.widgets",
            "taxlt_mergekit.sweep.command",
            "taxlt_mergekit.sweep.run",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_main, args=(program, list(map(str, arguments)), cwd, env, folder))
        process.start()
        process.join(timeout=300)
        output = [Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    assert process.exitcode is not None, "the command did not end"
    return Outcome(process.exitcode, *output)


def _main(program: str, arguments: list[str], cwd: Path | None, env: dict[str, str], folder: str) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), descriptor)
    # The forked process inherits Python streams of the server; the command must get its own.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ.update(env, HF_HUB_OFFLINE="1")
    if cwd is not None:
        os.chdir(cwd)
    import torch
    from mergekit.scripts.run_yaml import main as merge

    from taxlt_mergekit.cli import main as taxlt

    torch.set_num_threads(1)
    {"mergekit-yaml": merge, "taxlt": taxlt}[program](arguments, prog_name=program)
