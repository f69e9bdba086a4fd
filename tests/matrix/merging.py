"""One case from checkpoints to verdict."""

import contextlib
import hashlib
import io
import json
import logging
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from mergekit import merge
from mergekit.config import MergeConfiguration
from mergekit.options import MergeOptions
from safetensors import safe_open
from transformers import PreTrainedModel

from tests.matrix import checkpoints
from tests.matrix.cases import Case
from tests.matrix.reference import compare

WEIGHTS = {"src": 0.5, "tgt": 0.9}  # λ
VERDICTS = ("right", "wrong", "drift", "refused", "traceback", "unbuildable")


@dataclass(frozen=True)
class Result:
    """What came out of a case.

    Attributes:
        verdict: right; wrong: a tensor is lost, or not merged; drift: a head was moved; refused: by a
            `UserError`; traceback: by any other exception; unbuildable: transformers fails without us.
        reason: one line.
        details: everything else that helps to find the fault.
        hashes: of the output's tensors and of its files, to hold two versions of the package together.
    """

    case: str
    verdict: str
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """The checkpoints of a case as transformers loads them."""

    base: PreTrainedModel
    task: PreTrainedModel
    languages: dict[str, PreTrainedModel]
    task_gaps: dict[str, list[str]]


def run(case: Case, keep: Path | None = None) -> Result:
    """Build, merge, load and compare one case; keeps the checkpoints where a folder is given."""
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        heard = stack.enter_context(_quiet())
        stack.enter_context(torch.no_grad())
        result = _run(case, folder)
        result.details["log"] = heard.getvalue()
        return result


def _run(case: Case, folder: Path) -> Result:
    try:
        inputs = build_and_load(case, folder)
    except Exception as error:
        return Result(case.name, "unbuildable", _line(error), {"traceback": traceback.format_exc()})
    try:
        merge.run_merge(
            MergeConfiguration.model_validate(recipe(folder)),
            str(folder / "out"),
            MergeOptions(copy_tokenizer=False, quiet=True),
        )
    except click.ClickException as error:
        message = error.format_message().replace(f"{folder}/", "")
        verdict = "refused" if "\n" not in message else "traceback"
        return Result(case.name, verdict, message, {"traceback": traceback.format_exc()})
    except Exception as error:
        return Result(case.name, "traceback", _line(error), {"traceback": traceback.format_exc()})
    return judge(case, folder, inputs)


def build_and_load(case: Case, folder: Path) -> Inputs:
    """Save a case's checkpoints under a folder, and load them again.

    Raises:
        Exception: whatever transformers raises that cannot build, save or load a model of the case.
    """
    checkpoints.build(case, folder)
    kinds = {"theta0": case.base, "task": case.task} | dict.fromkeys(WEIGHTS, case.language)
    loaded = {name: checkpoints.load(folder / name, kind) for name, kind in kinds.items()}
    for name, (_, gaps) in loaded.items():
        if lost := gaps["missing_keys"] + gaps["mismatched_keys"]:
            raise RuntimeError(
                f"transformers saves a {kinds[name]} that it cannot load: {', '.join(lost[:3])}"
            )
    models = {name: model for name, (model, _) in loaded.items()}
    return Inputs(
        models["theta0"], models["task"], {name: models[name] for name in WEIGHTS}, loaded["task"][1]
    )


def recipe(folder: Path, method: str = "xlt_additive") -> dict[str, Any]:
    """The merge of the checkpoints under a folder, as mergekit reads it."""
    roles = {"task": {"role": "task"}}
    for name, role in (("src", "source"), ("tgt", "target")):
        roles[name] = {"role": role, "weight": WEIGHTS[name]}
    return {
        "merge_method": method,
        "base_model": str(folder / "theta0"),
        "models": [{"model": str(folder / name), "parameters": role} for name, role in roles.items()],
        "dtype": "float32",
    }


def judge(case: Case, folder: Path, inputs: Inputs, weights: dict[str, float] = WEIGHTS) -> Result:
    """Load the merge under `out` as the task model's class, and compare it with what it must be.

    Args:
        weights: language model → what its vector was multiplied by; below zero where it was subtracted.
    """
    found = json.loads((folder / "out" / "config.json").read_text(encoding="utf-8")).get("architectures")
    wanted = json.loads((folder / "task" / "config.json").read_text(encoding="utf-8")).get("architectures")
    if found != wanted:
        return Result(case.name, "wrong", f"the output is {found}, not {wanted}")
    try:
        output, gaps = checkpoints.load(folder / "out", case.task)
    except Exception as error:
        return Result(case.name, "wrong", f"does not load: {_line(error)}")
    details: dict[str, Any] = {k: v for k, v in gaps.items() if v != inputs.task_gaps[k]}
    details["names"] = sorted(_names(folder / "out") ^ _names(folder / "task"))
    difference = compare(
        output, inputs.task, inputs.base, [(weights[name], model) for name, model in inputs.languages.items()]
    )
    details |= vars(difference)
    lost = [f"{kind.split('_')[0]}: {', '.join(details[kind][:3])}" for kind in gaps if kind in details]
    lost += [
        f"{kind}: {', '.join(details[kind][:3])} ({len(details[kind])} in all)"
        for kind in ("unmerged", "other")
        if details[kind]
    ]
    if lost:
        return Result(case.name, "wrong", "; ".join(lost), details)
    if difference.moved:
        return Result(case.name, "drift", f"moved: {', '.join(difference.moved[:5])}", details)
    if not difference.merged:
        return Result(case.name, "wrong", "nothing was merged", details)
    return Result(case.name, "right", "", details, _hashes(folder / "out"))


def _names(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names


def _hashes(folder: Path) -> dict[str, str]:
    tensors, files = hashlib.sha256(), hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        files.update(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                value = file.get_tensor(name).contiguous()
                tensors.update(f"{name} {value.dtype} {list(value.shape)}".encode())
                tensors.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"tensors": tensors.hexdigest(), "files": files.hexdigest()}


def _line(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]} ({Path(where.filename).name})"


@contextlib.contextmanager
def _quiet():
    """Nothing on the terminal; what was logged or warned is in the buffer."""
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(heard), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield heard
    finally:
        root.removeHandler(handler)
