"""One command after the other in one folder: each once, with the time that it took."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

LOG = "stages.jsonl"


@dataclass(frozen=True)
class Runner:
    """Commands in a folder of results.

    Attributes:
        folder: where they run; paths in them are below it.
        data: what TAXLT_DATA names.
    """

    folder: Path
    data: Path

    def taxlt(self, stage: str, *words: object, again: bool = False) -> None:
        """Run `taxlt` with this interpreter's package."""
        self.once(stage, "-m", "taxlt_mergekit", *words, again=again)

    def once(self, stage: str, *words: object, again: bool = False) -> None:
        """Run Python with these words, unless that was finished before.

        Args:
            stage: what the time counts for.
            again: run it even so.

        Raises:
            ClickException: the command fails; what it did so far is kept.
        """
        command = [str(word) for word in words]
        if not again and any(row["done"] and row["command"] == command for row in self.stages()):
            return
        click.echo(f"[{stage}] {' '.join(command).removeprefix('-m taxlt_mergekit ')}"[:160])
        began, used = time.monotonic(), _processor_seconds()
        done = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=self._environment(), check=False
        )
        row = {
            "stage": stage,
            "command": command,
            "done": done.returncode == 0,
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(_processor_seconds() - used, 1),
        }
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        if done.returncode:
            raise click.ClickException(
                f"{stage}: exit code {done.returncode}; the same command goes on from there"
            )

    def stages(self) -> list[dict]:
        """What was run, in order; a stopped command has a row for each of its starts."""
        log = self.folder / LOG
        return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []

    def _environment(self) -> Mapping[str, str]:
        return os.environ | {
            "TAXLT_DATA": str(self.data),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(self.folder / "cache"),
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")))
            ),
        }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
