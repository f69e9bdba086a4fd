"""The output folder: written beside its place and moved there when it is whole; the tokenizer's files."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from mergekit.common import ModelReference
from mergekit.options import MergeOptions

from taxlt_mergekit.errors import UserError

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


@contextlib.contextmanager
def staging(out_path: str) -> Iterator[str]:
    """A folder beside `out_path` whose files move there when all went well, and vanish otherwise."""
    if os.path.exists(out_path) and not os.path.isdir(out_path):
        raise UserError(f"{out_path}: is a file; the output must be a folder")
    parent = os.path.dirname(os.path.abspath(out_path))
    try:
        os.makedirs(parent, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{os.path.basename(os.path.normpath(out_path))}-", dir=parent)
    except OSError as error:
        raise UserError(f"{out_path}: cannot be written: {error.strerror}") from error
    try:
        yield folder
        os.makedirs(out_path, exist_ok=True)
        # Weights of an earlier merge under other file names would be read in place of the new ones.
        for name in os.listdir(out_path):
            if name.startswith(("model", "pytorch_model")) and name.endswith(
                (".safetensors", ".bin", ".index.json")
            ):
                os.remove(os.path.join(out_path, name))
        # config.json last: without it the folder does not pass for a model.
        for name in sorted(os.listdir(folder), key=lambda name: name == "config.json"):
            os.replace(os.path.join(folder, name), os.path.join(out_path, name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def has_tokenizer(model: ModelReference, options: MergeOptions) -> bool:
    folder = _donor_folder(model, options)
    return any(os.path.exists(os.path.join(folder, name)) for name in TOKENIZER_FILES)


def copy_tokenizer_files(model: ModelReference, folder: str, options: MergeOptions) -> None:
    """Copy the tokenizer files that mergekit's own list leaves out, such as vocab.txt."""
    donor = _donor_folder(model, options)
    for name in TOKENIZER_FILES:
        source, target = os.path.join(donor, name), os.path.join(folder, name)
        if os.path.exists(source) and not os.path.exists(target):
            shutil.copy(source, target)


def _donor_folder(model: ModelReference, options: MergeOptions) -> str:
    return model.local_path(cache_dir=options.transformers_cache, ignore_lora=True)
