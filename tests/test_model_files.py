"""What belongs to a model's folder, what goes along with its weights, and folders that are no model."""

import json
import os
from pathlib import Path

import pytest
from transformers.models.auto import tokenization_auto

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.model_files import (
    TOKENIZER_FILES,
    check_folder,
    copy_companions,
    model_entries,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def index(folder: Path, **shards: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def moved_to_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index(folder, a="model-00001-of-00002.safetensors", b="model-00002-of-00002.safetensors")


def only_gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


def text(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def pointers_of_any_name(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "weights.1").write_text(POINTER)
    index(folder, a="weights.1")


FOLDERS = {
    "file and shards": (
        lambda f: index(f, a="model-1-of-1.safetensors"),
        "has two sets of weights, model",
    ),
    "missing shard": (
        moved_to_shards,
        r"names model-00002-of-00002.safetensors, which is not there .1 of",
    ),
    "no index": (text("model.safetensors.index.json", "{"), "is not an index of weights"),
    "empty index": (lambda f: index(f), "its weight_map must be tensor names and files"),
    "model and adapter": (text("adapter_config.json", "{}"), r"has two sets of weights.* an adapter's"),
    "weights not fetched": (
        text("model.safetensors", POINTER),
        r"safetensors: is a Git-LFS pointer.*pull",
    ),
    "shards of any name": (pointers_of_any_name, "weights.1: is a Git-LFS pointer"),
    "tokenizer not fetched": (text("tokenizer.json", POINTER), "tokenizer.json: is a Git-LFS pointer"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"has no weights \(model.safetensors or",
    ),
    "another format": (only_gguf, "model.gguf is a format that is not read"),
}


@pytest.fixture
def model(tmp_path) -> Path:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_that_are_no_model(what, model):
    check_folder(str(model))
    change, words = FOLDERS[what]
    change(model)
    with pytest.raises(UserError, match=words):
        check_folder(str(model))


def test_two_forms_of_one_model(model):
    """An index of the one file, and .bin beside safetensors, which all readers prefer."""
    index(model, a="model.safetensors")
    (model / "pytorch_model.bin").write_text("weights")
    (model / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    check_folder(str(model))


def test_every_file_of_every_tokenizer_belongs_to_a_model():
    names = set()
    for tokenizer in tokenization_auto.TOKENIZER_MAPPING_NAMES.values():
        kind = tokenizer and tokenization_auto.tokenizer_class_from_name(tokenizer)
        for name in (getattr(kind, "vocab_files_names", None) or {}).values():
            names |= {name} if isinstance(name, str) else set(name or ())
    assert len(names) > 15
    assert names <= TOKENIZER_FILES


def test_a_copy_takes_nothing_that_is_there(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "generation_config.json").write_text(folder)
    (tmp_path / "one" / "vocab.txt").write_text("words")
    copy_companions(str(tmp_path / "one"), str(tmp_path / "two"), tokenizer=False)
    assert os.listdir(tmp_path / "two") == ["generation_config.json"]
    assert (tmp_path / "two" / "generation_config.json").read_text() == "two"


def test_modules_of_sentence_transformers_stay_in_their_folder(tmp_path):
    """Whatever modules.json says, nothing outside, and nothing of another name, belongs to the model."""
    for name in ("1_Pooling", "mine", "3_mine"):
        (tmp_path / "model" / name).mkdir(parents=True)
    (tmp_path / "2_outside").mkdir()
    paths = ["", "1_Pooling", "mine", "../2_outside", str(tmp_path / "2_outside"), "1_Pooling/../mine"]
    (tmp_path / "model" / "modules.json").write_text(json.dumps([{"path": path} for path in paths]))
    assert model_entries(str(tmp_path / "model")) == ["1_Pooling", "modules.json"]
    (tmp_path / "model" / "modules.json").write_text("{")
    with pytest.raises(UserError, match=r"modules\.json: is not a list of sentence-transformers' modules"):
        model_entries(str(tmp_path / "model"))
