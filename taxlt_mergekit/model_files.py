"""The files of a model's folder: which belong to it, which go along with the weights, what is wrong."""

import json
import os
import re
import shutil
from collections.abc import Iterator

import huggingface_hub

from taxlt_mergekit.errors import UserError, translated

# Every file that a tokenizer of transformers reads (`vocab_files_names` of its classes, and what all have).
_VOCABULARIES = frozenset(
    {
        "added_tokens.json",
        "bpe.codes",
        "byte_maps.json",
        "dict.txt",
        "emoji.json",
        "entity_vocab.json",
        "merges.txt",
        "normalizer.json",
        "prophetnet.tokenizer",
        "sentencepiece.bpe.model",
        "sentencepiece.model",
        "source.spm",
        "special_tokens_map.json",
        "spiece.model",
        "spm.model",
        "spm_char.model",
        "target.spm",
        "target_vocab.json",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab-src.json",
        "vocab-tgt.json",
        "vocab.json",
        "vocab.txt",
        "word_pronunciation.json",
        "word_shape.json",
    }
)
_CHAT_TEMPLATES = frozenset({"chat_template.jinja", "chat_template.json", "additional_chat_templates"})
TOKENIZER_FILES = _VOCABULARIES | _CHAT_TEMPLATES
# What generation, processors of images and sound, and sentence-transformers read beside config.json.
_SETTINGS = frozenset(
    {
        "audio_tokenizer_config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "modules.json",
        "preprocessor_config.json",
        "processor_config.json",
        "sentence_bert_config.json",
        "video_preprocessor_config.json",
    }
)
# Diagonal of the model's Fisher information: about its weights, not a set of them, and of no other model.
FISHER_FILE = "fisher.safetensors"
_OWN = frozenset({"README.md", "adapter_config.json", "config.json", FISHER_FILE, "mergekit_config.yml"})
_WEIGHTS = re.compile(
    r"((model|adapter_model|consolidated)\b.*\.safetensors|(pytorch_model|adapter_model)\b.*\.bin)(\.index\.json)?"
)
# sentence-transformers' modules beside the model, such as 1_Pooling: `modules.json` names them.
_MODULE = re.compile(r"\d+_\w+")
# In the order in which transformers looks for weights.
_SETS = ("model.safetensors", "pytorch_model.bin")
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_OTHER_FORMATS = (".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth", ".ckpt")
_POINTER = b"version https://git-lfs"


def model_entries(folder: str) -> list[str]:
    """Names in a folder that belong to a model: what is replaced when another model takes its place.

    Weights, config, card and recipe, and all that `copy_companions` copies; not what somebody else put there.
    """
    modules = _modules(folder)
    return [
        name
        for name in sorted(os.listdir(folder))
        if name in _OWN
        or name in TOKENIZER_FILES
        or name in _SETTINGS
        or name in modules
        or _WEIGHTS.fullmatch(name)
    ]


def has_tokenizer(folder: str) -> bool:
    return not _VOCABULARIES.isdisjoint(os.listdir(folder))


def copy_companions(source: str, target: str, tokenizer: bool = True) -> None:
    """Copy what goes along with a model's weights and config, where the target does not have it yet.

    Tokenizer and chat template; generation settings; processors of images and sound; the modules of a
    sentence-transformers model. Not README, licence or code.

    Args:
        tokenizer: copy the tokenizer and its chat templates too.
    """
    wanted = _SETTINGS | _modules(source) | (TOKENIZER_FILES if tokenizer else frozenset())
    for name in sorted(wanted.intersection(os.listdir(source)).difference(os.listdir(target))):
        path = os.path.join(source, name)
        (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, os.path.join(target, name))


def companions_folder(path: str, revision: str | None, cache: str | None) -> str:
    """The folder of a model's companions: its own, or where those of a model on the hub were fetched to.

    mergekit's download leaves out vocab.txt, merges.txt, sentencepiece's models and chat templates.
    """
    if os.path.isdir(path):
        return path
    patterns = [*TOKENIZER_FILES, *_SETTINGS, "additional_chat_templates/*", "[0-9]_*/*", "config.json"]
    with translated(f"{path}: its tokenizer and settings cannot be fetched"):
        return huggingface_hub.snapshot_download(
            path, revision=revision, cache_dir=cache, allow_patterns=patterns
        )


def is_lfs_pointer(path: str) -> bool:
    """Whether a file is what Git leaves in place of a large one that `git lfs pull` did not fetch."""
    with open(path, "rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def check_folder(path: str) -> None:
    """Look at a folder that is to be read as a model, before it is read.

    Args:
        path: a folder.

    Raises:
        UserError: Git-LFS pointers; an adapter, or another format, in place of weights; two sets of weights,
            of which transformers reads one and mergekit the other; an index that names absent files.
    """
    _check_pointers(path)
    sets = list(_sets_of_weights(path))
    is_adapter = os.path.exists(os.path.join(path, "adapter_config.json"))
    if not sets:
        raise UserError(_no_weights(path, is_adapter))
    if is_adapter:
        raise UserError(
            f"{path}: has two sets of weights, a model's ({sets[0][0]}) and an adapter's "
            "(adapter_config.json), which transformers would load in its place; remove one of them"
        )
    # Safetensors files come before .bin files everywhere: two formats side by side are no question.
    first, files = sets[0]
    if len(sets) > 1 and sets[1][0] == f"{first}.index.json" and sets[1][1] != {first}:
        raise UserError(
            f"{path}: has two sets of weights, {first} and the shards of {sets[1][0]}; transformers reads "
            "the one, mergekit the other; remove one of them"
        )
    if missing := sorted(name for name in files if not os.path.exists(os.path.join(path, name))):
        raise UserError(
            f"{path}: {first} names {missing[0]}, which is not there ({len(missing)} of {len(files)} files "
            "are missing)"
        )
    for name in sorted(files):  # an index may give its files any name
        _check_pointer(os.path.join(path, name))


def check_adapter(path: str) -> None:
    """Look at a folder that is to be read as a peft adapter, before it is read.

    Raises:
        UserError: Git-LFS pointers; a whole model in place of an adapter; no weights.
    """
    _check_pointers(path)
    names = set(os.listdir(path))
    if "adapter_config.json" not in names:
        what = "a whole model, not an adapter; name it alone" if "config.json" in names else "no adapter"
        raise UserError(f"{path}: is {what} (it has no adapter_config.json)")
    if names.isdisjoint(_ADAPTER_WEIGHTS):
        raise UserError(f"{path}: the adapter has no weights ({_ADAPTER_WEIGHTS[0]})")


def _check_pointers(folder: str) -> None:
    for name in sorted(os.listdir(folder)):
        if name in TOKENIZER_FILES or name in _SETTINGS or name in _OWN or _WEIGHTS.fullmatch(name):
            _check_pointer(os.path.join(folder, name))


def _check_pointer(file: str) -> None:
    if os.path.isfile(file):
        with translated(f"{file}: cannot be read"):
            pointer = is_lfs_pointer(file)
        if pointer:
            raise UserError(f"{file}: is a Git-LFS pointer, not the file itself; fetch it with git lfs pull")


def _sets_of_weights(folder: str) -> Iterator[tuple[str, set[str]]]:
    """A weights file, or an index, and the files that hold its tensors; in transformers' order."""
    for name in _SETS:
        if os.path.exists(os.path.join(folder, name)):
            yield name, {name}
        index = os.path.join(folder, f"{name}.index.json")
        if os.path.exists(index):
            yield f"{name}.index.json", set(_weight_map(index).values())


def _weight_map(index: str) -> dict[str, str]:
    with translated(f"{index}: is not an index of weights"):
        with open(index, encoding="utf-8") as file:
            found = json.load(file)["weight_map"]
        if (
            not isinstance(found, dict)
            or not found
            or not all(isinstance(name, str) for name in found.values())
        ):
            raise ValueError("its weight_map must be tensor names and files")
    return found


def _no_weights(folder: str, is_adapter: bool) -> str:
    if is_adapter:
        return f"{folder}: is an adapter, not a model; write its base model before it, as in BASE+{folder}"
    found = [name for name in sorted(os.listdir(folder)) if name.endswith(_OTHER_FORMATS)]
    shown = f"; {found[0]} is a format that is not read" if found else ""
    return f"{folder}: has no weights (model.safetensors or pytorch_model.bin){shown}"


def _modules(folder: str) -> frozenset[str]:
    """The folders of sentence-transformers' modules."""
    file = os.path.join(folder, "modules.json")
    if not os.path.exists(file):
        return frozenset()
    with (
        translated(f"{file}: is not a list of sentence-transformers' modules"),
        open(file, encoding="utf-8") as text,
    ):
        paths = [str(module["path"]) for module in json.load(text)]
    return frozenset(path for path in paths if _MODULE.fullmatch(path))
