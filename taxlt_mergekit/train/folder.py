"""The output folder: what it holds, its checkpoints, the errors of its disk, and its upload.

While a run goes on, the folder holds `training_settings.yaml` and Trainer's checkpoints. Weights, tokenizer
and model card are put beside them at the very end, `config.json` last, and the checkpoints go: a folder with
a `config.json` is a finished vector.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import torch

from taxlt_mergekit.errors import UserError, first_line, one_line, translated
from taxlt_mergekit.train.console import is_main, say
from taxlt_mergekit.train.settings import SETTINGS_FILE

STATE_FILE = "trainer_state.json"  # Trainer's name for it, which it writes last
STAGING = ".being-saved"
FINISHED = ("config.json", "adapter_config.json")
DAMAGED = "damaged-"
FIRST_PHASE = "phase-1"  # of a sparse run: what its first phase saves, until the run is finished
WEIGHTS = ("model*.safetensors", "adapter_model*", "pytorch_model*")
# What Trainer goes on without in silence: one file of each at least is in a whole checkpoint.
NEEDED = {
    "weights": WEIGHTS,
    "optimizer.pt": ("optimizer*",),
    "scheduler.pt": ("scheduler.pt",),
    "rng_state.pth": ("rng_state*.pth",),
}
# How errors of torch's and safetensors' own writers are known.
WRITERS = ("inline_container", "iostream error", "PytorchStreamWriter", "SafetensorError")


def look_at_output(folder: Path, resume: bool) -> str:
    """What the output folder holds: `nothing`, `unfinished` or `finished`.

    Raises:
        UserError: it holds something else, or a run while `resume` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file")
    with translated(f"--output {folder} cannot be read"):
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


def check_writable(folder: Path, name: str) -> None:
    """Write to the folder, or to the one that it will be made in, and leave nothing there.

    No folder is made and removed for it: other runs, started at the same time, may be about to use it.

    Args:
        folder: where files will be written.
        name: the flag or variable that chooses it, for the error.

    Raises:
        UserError: it cannot be made or written.
    """
    if not is_main():
        return
    with translated(f"{name} {folder} cannot be written"):
        with contextlib.suppress(FileNotFoundError):
            folder.lstat()  # a name that is too long, or below a file
        with tempfile.TemporaryFile(dir=_nearest(folder)) as file:
            file.write(bytes(4096))


def _nearest(folder: Path) -> Path:
    """The folder, or the lowest of those above it that is there; a link counts, whatever it leads to."""
    return next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())


def check_room(folder: Path, checkpoint: int, saves: int, limit: int | None) -> None:
    """Refuse a disk that the checkpoints of a run will not fit on.

    Args:
        folder: the output folder, there or not yet.
        checkpoint: bytes of one.
        saves: how many are saved in all.
        limit: how many are kept. One more is there while it is saved.

    Raises:
        UserError: the disk has less room.
    """
    number = min(saves, limit + 1) if limit else saves
    there = sum(path.stat().st_size for saved in checkpoints(folder) for path in saved.glob("*"))
    free = shutil.disk_usage(_nearest(folder)).free + there
    if free < number * checkpoint:
        raise UserError(
            f"--output {folder}: the disk has room for {_size(free)}, and {number} checkpoints of "
            f"{_size(checkpoint)} need {_size(number * checkpoint)}; make room, choose another --output, or "
            "keep fewer of them with --save-total-limit"
        )


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def checkpoints(folder: Path) -> list[Path]:
    """Trainer's checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint.

    Newer ones are named and passed over. What a killed process or a full disk left unfinished is removed;
    what was damaged later is renamed, for the error may be one of reading alone.
    """
    for path in reversed(checkpoints(folder)):
        fault = fault_of(path)
        if fault is None:
            return path
        if is_main():
            _set_aside(path, fault)
    return None


def _set_aside(checkpoint: Path, fault: str) -> None:
    if not _is_json(checkpoint / STATE_FILE):
        say(f"{checkpoint.name} was not saved to its end ({fault}); it is removed")
        shutil.rmtree(checkpoint, ignore_errors=True)
        return
    aside = checkpoint.with_name(DAMAGED + checkpoint.name)
    say(f"{checkpoint.name} is damaged ({fault}) and passed over; it is now called {aside.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    except OSError:
        pass  # it is there, and cannot be read just now
    return True


def fault_of(checkpoint: Path, needed: Mapping[str, Sequence[str]] = NEEDED) -> str | None:
    """The first file of a checkpoint that is missing or damaged; None where it is whole.

    Archives are read to their ends and compared with their checksums; of weights the length is compared.

    Args:
        checkpoint: a folder that Trainer saved.
        needed: for each name the patterns of which one must be there.
    """
    if not (checkpoint / STATE_FILE).is_file():
        return f"no {STATE_FILE}"
    if not (checkpoint / "latest").exists():  # which DeepSpeed writes beside files of its own
        for name, patterns in needed.items():
            if not any(any(checkpoint.glob(pattern)) for pattern in patterns):
                return f"no {name}"
    try:
        for path in sorted(checkpoint.iterdir()):
            with translated(path.name):
                _read_through(path)
    except UserError as error:
        return error.message
    return None


def _read_through(path: Path) -> None:
    if path.suffix == ".json":
        content = json.loads(path.read_bytes())
        if path.name.endswith(".index.json"):
            missing = sorted(
                name for name in set(content["weight_map"].values()) if not (path.parent / name).is_file()
            )
            if missing:
                raise UserError(f"no {missing[0]}")
    elif path.suffix == ".safetensors":
        with safetensors.safe_open(path, "pt"):
            pass
    elif path.suffix in (".pt", ".pth", ".bin") and path.is_file():
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                raise UserError(f"{path.name}: {part} is damaged")


def correct_state(state: Path, folder: Path, metric: str, greater: bool) -> bool:
    """See that a saved state names a best checkpoint that is there and whole.

    Where the run's folder was moved, it names the old place. Where its best checkpoint is damaged, the best
    of those that are left takes its place.

    Args:
        state: a `trainer_state.json`.
        folder: the run's.
        metric: its name in the log (`eval_loss`).
        greater: whether more of it is better.

    Returns:
        Whether there is a best checkpoint.
    """
    if not _is_json(state):
        return False
    content = json.loads(state.read_text(encoding="utf-8"))
    named = content.get("best_model_checkpoint")
    best = folder / Path(named).name if named else None
    if best is not None and fault_of(best, {"weights": WEIGHTS}) is not None:
        log = {entry["step"]: entry[metric] for entry in content["log_history"] if metric in entry}
        left = [path for path in checkpoints(folder) if _step(path) in log and fault_of(path) is None]
        order = 1 if greater else -1
        found = max(left, key=lambda path: order * log[_step(path)], default=None)
        what = f"the best that is left is {found.name}" if found else "none is left to keep"
        say(f"{best.name}, the best so far, is missing or damaged; {what}")
        best = found
        content["best_global_step"] = _step(found) if found else None
        content["best_metric"] = log[_step(found)] if found else None
    if named != (str(best) if best else None):
        content["best_model_checkpoint"] = str(best) if best else None
        if is_main():
            new = state.with_suffix(".new")
            new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            os.replace(new, state)
    return best is not None


def complete(folder: Path) -> None:
    """Take what is in `STAGING` into the folder, the files that say it is finished last; checkpoints go."""
    for path in sorted((folder / STAGING).iterdir(), key=lambda path: path.name in FINISHED):
        path.replace(folder / path.name)
    tidy(folder)


def tidy(folder: Path) -> None:
    """Remove what a finished run no longer needs."""
    gone = (folder / STAGING, folder / FIRST_PHASE)
    for path in (*gone, *checkpoints(folder), *folder.glob(f"{DAMAGED}checkpoint-*")):
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            say(f"{path} could not be removed; nothing needs it any more")


@contextlib.contextmanager
def clear_errors(folder: Path) -> Iterator[None]:
    """A disk that fails and short memory, said in one line. What was half-written goes, older work stays."""
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
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise UserError(
                "the machine's memory is too small; the same batch may fit with --gradient-checkpointing or "
                f"--gradient-accumulation-steps 4 (or more): {first_line(error)}"
            ) from error
        failed = _writing_failed(error)
        if failed is None:
            raise
        if is_main():
            shutil.rmtree(folder / STAGING, ignore_errors=True)
        kept = last_checkpoint(folder)
        then = f"go on from {kept.name} with --resume" if kept else "start again"
        if _disk_is_full(error, folder):
            raise UserError(f"the disk of {folder} is full; make room and {then}") from error
        raise UserError(f"{folder}: {one_line(failed)}; {then}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _writing_failed(error: BaseException) -> BaseException | None:
    """The error of a disk behind another; torch and safetensors raise their own."""
    return next(
        (
            one
            for one in _chain(error)
            if isinstance(one, OSError) or any(mark in repr(one) for mark in WRITERS)
        ),
        None,
    )


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    for one in _chain(error):
        if getattr(one, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(one):
            return True
        if any(mark in repr(one) for mark in WRITERS):  # which hide the number
            return shutil.disk_usage(folder if folder.exists() else Path.cwd()).free < 1 << 26
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
    with translated(f"--push-to-hub: the hub did not create {name}"):
        return huggingface_hub.create_repo(
            name, private=arguments.get("hub_private_repo"), token=arguments.get("hub_token"), exist_ok=True
        ).repo_id


def upload(folder: Path, repository: str, arguments: Mapping[str, Any]) -> None:
    """Upload the finished folder, once for all processes.

    Raises:
        UserError: the hub refuses; the folder is complete all the same.
    """
    if not is_main():
        return
    with translated(f"{folder} is complete, but uploading it to {repository} failed"):
        huggingface_hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            token=arguments.get("hub_token"),
            revision=arguments.get("hub_revision"),
            commit_message="Trained with taxlt-mergekit",
        )
    say(f"pushed to https://huggingface.co/{repository}")
