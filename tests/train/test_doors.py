"""Whatever a library raises where training meets it is one line that names what the user gave."""

import pickle
import socket
import ssl
import zipfile
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pyarrow
import pytest
import safetensors
import torch
import transformers
import yaml

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train import folder, models, prepare, text, trainer
from taxlt_mergekit.train.settings import LanguageSettings, split_batch

ERRORS = [
    OSError("not there\nat all"),
    PermissionError(13, "Permission denied", "/a/b"),
    ConnectionError("no network"),
    TimeoutError(),
    socket.gaierror(-2, "Name or service not known"),
    ssl.SSLError("certificate verify failed"),
    ValueError("a value"),
    TypeError("a type"),
    KeyError("model_type"),
    IndexError("list index out of range"),
    AttributeError("no attribute"),
    RuntimeError("a size mismatch"),
    NotImplementedError(),
    AssertionError(),
    ImportError("sentencepiece is missing"),
    RecursionError("too deep"),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\\xe9", 0, 1, "invalid start byte"),
    pickle.UnpicklingError("invalid load key"),
    zipfile.BadZipFile("File is not a zip file"),
    yaml.YAMLError("a scanner's error"),
    safetensors.SafetensorError("header too large"),
    pyarrow.ArrowInvalid("a column of two types"),
    datasets.exceptions.DatasetNotFoundError("doesn't exist on the Hub"),
    huggingface_hub.errors.LocalEntryNotFoundError("offline"),
    torch.OutOfMemoryError("CUDA out of memory"),
]


def load_weights():
    config = transformers.XLMRobertaConfig(vocab_size=9, hidden_size=4, num_attention_heads=1)
    settings = LanguageSettings(model="my/model", corpus=["a.txt"])
    objective = models.choose_objective(config, "my/model")
    return models.load_language_model(settings, config, SimpleNamespace(mask_token_id=1), objective)


def start_trainer():
    arguments = SimpleNamespace(label_smoothing_factor=0.0)
    parts = dict.fromkeys(("model", "train", "validation", "collator", "tokenizer"))
    return trainer.make_trainer(SimpleNamespace(arguments=arguments, objective="clm", **parts), [])


DOORS = {
    "tokenizer": (transformers.AutoTokenizer, "from_pretrained", lambda: models.load_tokenizer("my/model")),
    "weights": (transformers.AutoModelForMaskedLM, "from_pretrained", load_weights),
    "corpus": (datasets, "load_dataset", lambda: text.survey(["my/model"], "text", 1)),
    "arguments": (
        prepare,
        "TrainingArguments",
        lambda: prepare.training_arguments({"eval_steps": 1}, "out", split_batch(1, 1, 1, 1, 1), True),
    ),
    "trainer": (trainer, "VectorTrainer", start_trainer),
    "repository": (
        huggingface_hub,
        "create_repo",
        lambda: folder.create_repository(Path("out"), {"push_to_hub": True, "hub_model_id": "my/model"}),
    ),
    "upload": (huggingface_hub, "upload_folder", lambda: folder.upload(Path("out"), "my/model", {})),
}
NAMES = {
    "tokenizer": "model my/model has no tokenizer that can be loaded: ",
    "weights": "model my/model cannot be loaded: ",
    "corpus": "corpus my/model is not a file, and as a data set it could not be loaded: ",
    "arguments": "transformers.TrainingArguments: ",
    "trainer": "training cannot start: ",
    "repository": "--push-to-hub: the hub did not create my/model: ",
    "upload": "out is complete, but uploading it to my/model failed: ",
}


@pytest.mark.parametrize("door", DOORS)
def test_every_kind_of_error_at_a_door_is_one_line(door, monkeypatch):
    owner, name, walk_through = DOORS[door]
    for error in ERRORS:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(owner, name, fail)
        with pytest.raises(UserError) as caught:
            walk_through()
        message = caught.value.message
        assert message.startswith(NAMES[door]), message
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
        assert (said or type(error).__name__) in message, message
        assert "\n" not in message
