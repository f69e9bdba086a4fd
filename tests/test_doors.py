"""Whatever a library raises at one of this package's doors is one line that names what was asked for."""

import errno
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import datasets
import huggingface_hub.errors
import pydantic
import pytest
import safetensors
import torch
import yaml
from click.testing import CliRunner
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.options import MergeOptions

from taxlt_mergekit import cli
from taxlt_mergekit.cells import lm_eval as results
from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.evaluate import head
from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
from taxlt_mergekit.merge import checkpoint, run
from taxlt_mergekit.paper import rows
from taxlt_mergekit.sweep import recipe as sweep_recipe
from taxlt_mergekit.train import models
from tests.helpers.families import build
from tests.helpers.merging import recipe


def validation_error() -> Exception:
    try:
        pydantic.TypeAdapter(int).validate_python("much")
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device", "/some/file"),
    PermissionError(errno.EACCES, "Permission denied", b"/some/file"),
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    IsADirectoryError("a folder"),
    ConnectionError("refused"),
    huggingface_hub.errors.OfflineModeIsEnabled("no network"),
    huggingface_hub.errors.LocalEntryNotFoundError("nothing in the cache"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    KeyError("model.safetensors"),
    IndexError(),
    ValueError("several\nlines\nof advice"),
    TypeError("int() argument"),
    AttributeError("no attribute"),
    AssertionError(),
    RuntimeError(""),
    NotImplementedError(),
    MemoryError(),
    RecursionError("too deep"),
    EOFError("Ran out of input"),
    ImportError("No module named 'sentencepiece'"),
    StopIteration(),
    ZeroDivisionError("division by zero"),
    pickle.UnpicklingError("invalid load key"),
    zipfile.BadZipFile("File is not a zip file"),
    struct.error("unpack requires 4 bytes"),
    safetensors.SafetensorError("HeaderTooLarge"),
    json.JSONDecodeError("Expecting value", "x", 0),
    yaml.YAMLError("mapping values are not allowed here"),
    torch.OutOfMemoryError("CUDA out of memory"),
    validation_error(),
]


def raising(error: Exception) -> Callable[..., Any]:
    def function(*_args: Any, **_options: Any) -> Any:
        raise error

    return function


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("models"), "xlm-roberta")


def merge(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    config = MergeConfiguration.model_validate(recipe(folder))
    run.run(raising(error), config, str(folder / "out"), MergeOptions(quiet=True))


def open_config(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(ModelReference, "config", raising(error))
    checkpoint.open_checkpoint(ModelReference.parse(str(folder / "task")), MergeOptions())


def open_weights(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(checkpoint, "safe_open", raising(error))
    checkpoint.open_checkpoint(ModelReference.parse(str(folder / "task")), MergeOptions())


def ask_the_hub(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(datasets, "load_dataset", raising(error))
    rows.hub_rows("facebook/xnli", "task multinli")


def read_a_sweeps_recipe(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(sweep_recipe.yaml, "safe_load", raising(error))
    (folder / "task.yml").write_text("merge_method: xlt_additive")
    sweep_recipe.read_recipe(folder / "task.yml")


def read_results(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(results.json, "loads", raising(error))
    (folder / "results_task.json").write_text("{}")
    list(results.read_lm_eval(folder / "results_task.json"))


def open_a_model_to_train(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(models.transformers.AutoConfig, "from_pretrained", raising(error))
    models.load_config("task")


def load_a_classifier(folder: Path, patch: pytest.MonkeyPatch, error: Exception) -> None:
    patch.setattr(head.AutoModelForSequenceClassification, "from_pretrained", raising(error))
    SequenceClassifierLM(pretrained=str(folder / "task"), device="cpu")


DOORS = [
    merge,
    open_config,
    open_weights,
    ask_the_hub,
    read_a_sweeps_recipe,
    read_results,
    open_a_model_to_train,
    load_a_classifier,
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_one_line_at_every_door(door, error, folder, monkeypatch):
    with pytest.raises(UserError) as caught:
        door(folder, monkeypatch, error)
    monkeypatch.undo()
    message = caught.value.message
    assert "task" in message or "xlt_additive" in message
    assert "\n" not in message and len(message) < 900
    assert not (folder / "out").exists()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_one_line_from_every_command_unless_all_is_asked_for(error, monkeypatch):
    command = click.Command("fails", callback=raising(error))
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: command)
    outcome = CliRunner().invoke(cli.main, ["fails"])
    assert outcome.exit_code == 1 and outcome.stderr.startswith("Error: taxlt: ")
    assert len(outcome.stderr.splitlines()) == 1
    outcome = CliRunner().invoke(cli.main, ["-v", "fails"])
    assert outcome.exit_code == 1
    # click takes the end of its input for a user's wish to stop.
    assert type(outcome.exception) is (SystemExit if isinstance(error, EOFError) else type(error))


def test_what_a_command_says_itself_is_left_alone():
    for error in (UserError("mine"), click.UsageError("usage"), click.Abort(), click.exceptions.Exit(3)):
        with pytest.raises(type(error)) as caught, translated("door"):
            raise error
        assert caught.value is error
    with pytest.raises(KeyboardInterrupt), translated("door"):
        raise KeyboardInterrupt
