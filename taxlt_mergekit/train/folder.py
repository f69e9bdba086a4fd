"""The output folder: what it holds, its checkpoints, the errors of its disk, and its upload.

While a run goes on, the folder holds `training_settings.yaml` and Trainer's checkpoints. Weights, tokenizer
and model card are put beside them at the very end, `config.json` last, and the checkpoints go: a folder with
a `config.json` is a finished vector.
"""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from taxlt_mergekit.errors import UserError, first_line, one_line
from taxlt_mergekit.train.console import is_main, say
from taxlt_mergekit.train.settings import SETTINGS_FILE

STATE_FILE = "trainer_state.json"  # Trainer's name for it
STAGING = ".being-saved"
FINISHED = ("config.json", "adapter_config.json")


def look_at_output(folder: Path, resume: bool) -> str:
    """What the output folder holds: `nothing`, `unfinished` or `finished`.

    Raises:
        UserError: it holds something else, or a run while `resume` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if held <= {SETTINGS_FILE}:  # a run that was stopped before its first checkpoint has nothing to lose
        return "nothing"
    if SETTINGS_FILE not in held:
        raise UserError(f"--output {folder} is not empty and holds no run of this command; choose another")
    finished = not held.isdisjoint(FINISHED)
    if not resume:
        raise UserError(
            f"--output {folder} already holds "
            + ("a finished run; choose another folder, or remove it" if finished else "an unfinished run")
            + ("" if finished else "; add --resume to go on with it, or choose another folder")
        )
    return "finished" if finished else "unfinished"


def checkpoints(folder: Path) -> list[Path]:
    """Trainer's checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; what a killed process or a full disk left half-written is removed."""
    for path in reversed(checkpoints(folder)):
        try:
            correct_paths(path / STATE_FILE, folder)  # Trainer writes it last
        except (OSError, ValueError):
            if is_main():
                shutil.rmtree(path, ignore_errors=True)
            continue
        return path
    return None


def correct_paths(state: Path, folder: Path) -> None:
    """Where a run's folder was moved, its saved state names the best checkpoint at the old place."""
    content = json.loads(state.read_text(encoding="utf-8"))
    best = content.get("best_model_checkpoint")
    if best and Path(best).parent != folder:  # Trainer would go on without its best
        content["best_model_checkpoint"] = str(folder / Path(best).name)
        if is_main():
            state.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def complete(folder: Path) -> None:
    """Take what is in `STAGING` into the folder, the files that say it is finished last; checkpoints go."""
    staging = folder / STAGING
    for path in sorted(staging.iterdir(), key=lambda path: path.name in FINISHED):
        path.replace(folder / path.name)
    staging.rmdir()
    for path in checkpoints(folder):
        shutil.rmtree(path)


@contextlib.contextmanager
def clear_errors(folder: Path) -> Iterator[None]:
    """A full disk and short memory, said in one line. What was half-written is removed, older work stays."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU's memory is too small; the same batch may fit with --gradient-accumulation-steps 4 (or "
            f"more), --gradient-checkpointing, or --bf16 ({first_line(error)})"
        ) from error
    except UserError:
        raise
    except Exception as error:
        if not disk_is_full(error, folder):
            raise
        if is_main():
            shutil.rmtree(folder / STAGING, ignore_errors=True)
            last_checkpoint(folder)
        kept = last_checkpoint(folder)
        then = f"make room and go on from {kept.name} with --resume" if kept else "make room and start again"
        raise UserError(f"the disk of {folder} is full; {then}") from error


def disk_is_full(error: BaseException | None, folder: Path) -> bool:
    """Whether an error comes from a full disk. torch and safetensors hide the number in their own errors."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        if any(mark in str(error) for mark in ("inline_container", "iostream error", "PytorchStreamWriter")):
            return shutil.disk_usage(folder if folder.exists() else Path.cwd()).free < 1 << 26
        error = error.__cause__ or error.__context__
    return False


def create_repository(folder: Path, arguments: Mapping[str, Any]) -> str | None:
    """The hub's repository of the folder, made before the work begins, so that a missing login costs nothing.

    Args:
        folder: whose name it gets by default.
        arguments: `push_to_hub` and the fields `hub_…` of `TrainingArguments`.

    Returns:
        Its id, or None where nothing is to be uploaded.

    Raises:
        UserError: the hub refuses.
    """
    if not arguments.get("push_to_hub"):
        return None
    name = arguments.get("hub_model_id") or folder.name
    if not is_main():
        return name
    try:
        created = huggingface_hub.create_repo(
            name, private=arguments.get("hub_private_repo"), token=arguments.get("hub_token"), exist_ok=True
        )
    except Exception as error:  # network, login, rights: the hub's own kinds
        raise UserError(f"--push-to-hub: the hub did not create {name} ({one_line(error)})") from error
    return created.repo_id


def upload(folder: Path, repository: str, arguments: Mapping[str, Any]) -> None:
    """Upload the finished folder, once for all processes.

    Raises:
        UserError: the hub refuses; the folder is complete all the same.
    """
    if not is_main():
        return
    try:
        huggingface_hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            token=arguments.get("hub_token"),
            revision=arguments.get("hub_revision"),
            commit_message="Trained with taxlt-mergekit",
        )
    except Exception as error:
        raise UserError(
            f"{folder} is complete, but uploading it to {repository} failed ({one_line(error)})"
        ) from error
    say(f"pushed to https://huggingface.co/{repository}")
