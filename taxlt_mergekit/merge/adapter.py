"""A model with a peft adapter, as the whole checkpoint that both make; kept in a cache by its content."""

import contextlib
import copy
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import xxhash
from mergekit.common import ModelPath, ModelReference, dtype_from_name
from mergekit.options import MergeOptions
from safetensors import SafetensorError, safe_open
from transformers.initialization import no_init_weights

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.output import staging
from taxlt_mergekit.model_files import (
    check_adapter,
    check_folder,
    companions_folder,
    copy_companions,
    has_tokenizer,
    model_entries,
)
from taxlt_mergekit.paper import remedies

LOG = logging.getLogger(__name__)

# peft's types of task that need a head of their own.
_HEADS = {
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
    "QUESTION_ANS": transformers.AutoModelForQuestionAnswering,
}
_PREFIX = "base_model.model."  # of the names in peft's files
_SAY_NOTHING_OF_CONTENT = {"README.md", "mergekit_config.yml"}


@dataclass(frozen=True)
class _Adapter:
    """An adapter, before its base is opened.

    Attributes:
        model: as the recipe names it, with its base.
        base: folder of the base model.
        folder: of the adapter.
        shapes: of its tensors, under the names that their modules have in the model.
    """

    model: ModelReference
    base: str
    folder: str
    settings: peft.PeftConfig
    shapes: dict[str, tuple[int, ...]]

    @property
    def task_type(self) -> str:
        return getattr(self.settings.task_type, "value", self.settings.task_type) or ""


def merged_checkpoint(model: ModelReference, options: MergeOptions) -> ModelReference:
    """The model itself, or the whole checkpoint of `base+adapter`.

    It is made where the cache has none of this content, on the class that the adapter was trained on and with
    the head that it carries; tokenizer and settings are the adapter's, else the base's. Base and adapter are
    read once at each call.

    Raises:
        UserError: no cache was named; the adapter lacks something, does not fit, or cannot be merged.
    """
    if model.lora is None:
        return model
    if not options.lora_merge_cache:
        raise UserError(f"{model}: merging an adapter needs --lora-merge-cache FOLDER")
    adapter = _open(model, options)
    with translated(f"{model}: cannot be read"):
        content = fingerprint(model, options)
    made_by = (content, options.lora_merge_dtype, transformers.__version__, peft.__version__)
    key = xxhash.xxh3_128_hexdigest(repr(made_by).encode())
    names = [
        re.sub(r"[^\w.-]", "_", os.path.basename(os.path.normpath(p.path))) for p in (model.model, model.lora)
    ]
    entry = os.path.join(options.lora_merge_cache, "_".join((*names, key)))
    if not _is_whole(entry):
        with staging(entry, wait=True) as folder:
            if not _is_whole(entry):  # another process made it while this one waited
                LOG.info("Merging %s", model)
                with translated(f"{model}: cannot be merged", as_it_is=bool(options.verbosity)):
                    _merge(adapter, folder, options)
    return ModelReference(model=ModelPath(path=entry))


def fingerprint(model: ModelReference, options: MergeOptions) -> str:
    """Content hash of a model: its weights, config, tokenizer and settings, and those of its adapter.

    Reads every file once from end to end, which also brings the weights into memory for the merges to come.
    """
    state, buffer = xxhash.xxh3_128(), bytearray(1 << 24)
    folders = [model.local_path(cache_dir=options.transformers_cache, ignore_lora=True)]
    if model.lora is not None:
        folders.append(_adapter_folder(model, options))
    for path in (path for folder in folders for path in _content(Path(folder))):
        state.update(f"{path.name} {os.path.getsize(path)}".encode())
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                state.update(memoryview(buffer)[:count])
    return state.hexdigest()


def _content(folder: Path) -> Iterator[Path]:
    entries = set(model_entries(str(folder))) - _SAY_NOTHING_OF_CONTENT
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name in entries:
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file() and (path.suffix == ".safetensors" or path.name in entries):
            yield path


def _adapter_folder(model: ModelReference, options: MergeOptions) -> str:
    assert model.lora is not None
    if os.path.isdir(model.lora.path):
        return model.lora.path
    hint = remedies.for_model(model.lora.path, model.model.path, adapter=True)
    with translated(f"{model.lora}: no such folder, and not to be had from the hub", hint):
        return ModelReference(model=model.lora).local_path(cache_dir=options.transformers_cache)


def _open(model: ModelReference, options: MergeOptions) -> _Adapter:
    folder = _adapter_folder(model, options)
    check_adapter(folder)
    with translated(f"{model}: the adapter cannot be opened"):
        settings = peft.PeftConfig.from_pretrained(folder)
        tensors = peft.load_peft_weights(folder, device="cpu")
    if settings.is_prompt_learning:
        raise UserError(
            f"{model}: a {settings.peft_type.value} adapter lengthens the input and changes no weight, so it "
            "has no vector; take one that does, such as LoRA"
        )
    path = model.model.path
    hint = "" if os.path.isdir(path) else remedies.for_model(path)
    with translated(f"{model.model}: cannot be opened", hint):
        base = model.local_path(cache_dir=options.transformers_cache, ignore_lora=True)
    check_folder(base)
    shapes = {name.removeprefix(_PREFIX): tuple(tensor.shape) for name, tensor in tensors.items()}
    return _Adapter(model, base, folder, settings, shapes)


def _is_whole(entry: str) -> bool:
    """Whether an entry of the cache can be read; what cannot is made again."""
    try:
        check_folder(entry)
        json.loads(Path(entry, "config.json").read_text(encoding="utf-8"))
        for file in Path(entry).glob("*.safetensors"):
            with safe_open(file, framework="pt"):
                pass
    except (UserError, OSError, ValueError, SafetensorError):
        return False
    return True


def _merge(adapter: _Adapter, folder: str, options: MergeOptions) -> None:
    """Save the whole checkpoint of an adapter and its base in a folder."""
    config = transformers.AutoConfig.from_pretrained(
        adapter.base, trust_remote_code=options.trust_remote_code
    )
    kind = _class(adapter, config)
    is_head = _name_labels(adapter, kind, config)
    with _without_report():
        model, info = kind.from_pretrained(
            adapter.base,
            config=config,
            dtype=dtype_from_name(options.lora_merge_dtype) or "auto",
            ignore_mismatched_sizes=True,  # a base with another head, whose place the adapter's takes
            output_loading_info=True,
            trust_remote_code=options.trust_remote_code,
        )
    random = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])} - adapter.shapes.keys()
    if random and is_head:
        raise UserError(
            f"{adapter.model}: {min(random)}, a part of {type(model).__name__} ({adapter.task_type}), is "
            "neither in the adapter nor in its base model; train the adapter with it among modules_to_save"
        )
    with warnings.catch_warnings():
        # peft leaves layers without their adapter where the names do not fit, and warns.
        warnings.filterwarnings("error", message="Found missing adapter keys")
        warnings.simplefilter("ignore", FutureWarning)
        model = peft.PeftModel.from_pretrained(model, adapter.folder, torch_device="cpu").merge_and_unload()
    # What a language model lacks besides, such as a pooler, was made up on loading.
    kept = {name: tensor for name, tensor in model.state_dict().items() if name not in random}
    model.save_pretrained(folder, state_dict=kept)
    own_tokenizer = has_tokenizer(adapter.folder)
    for part, with_tokenizer in (
        (adapter.model.lora, own_tokenizer),
        (adapter.model.model, not own_tokenizer),
    ):
        assert part is not None
        source = companions_folder(part.path, part.revision, options.transformers_cache)
        copy_companions(source, folder, with_tokenizer)


@contextlib.contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from warning of tensors that are missing: they are the adapter's, or refused here."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _class(adapter: _Adapter, config: transformers.PretrainedConfig) -> Any:
    """The class that an adapter was trained on: the first that has all the modules that it names."""
    if adapter.task_type in _HEADS:
        return _HEADS[adapter.task_type]
    said = (adapter.settings.auto_mapping or {}).get("base_model_class", "")
    candidates = [getattr(transformers, said, None), own_class(config), transformers.AutoModel]
    candidates = [candidate for candidate in candidates if candidate is not None]
    fitting = (candidate for candidate in candidates if _fits(adapter, _skeleton(candidate, config)))
    return next(fitting, candidates[0])


def own_class(config: transformers.PretrainedConfig) -> Any:
    """The class that a config names, or a language model of its kind where it names none."""
    (name, *_) = config.architectures or [""]
    if known := getattr(transformers, name, None):
        return known
    for auto, remote in (getattr(config, "auto_map", None) or {}).items():
        if name and str(remote).endswith(f".{name}"):
            return getattr(transformers, auto)
    for mapping in (transformers.MODEL_FOR_MASKED_LM_MAPPING, transformers.MODEL_FOR_CAUSAL_LM_MAPPING):
        if type(config) in mapping:
            return mapping[type(config)]
    return transformers.AutoModel


def _skeleton(kind: Any, config: transformers.PretrainedConfig) -> torch.nn.Module:
    """A model without weights."""
    with torch.device("meta"), no_init_weights():
        return kind.from_config(config) if hasattr(kind, "from_config") else kind(config)


def _fits(adapter: _Adapter, model: torch.nn.Module) -> bool:
    """Whether each tensor of an adapter is below a module with tensors of its own."""
    modules = dict(model.named_modules())

    def owner(name: str) -> torch.nn.Module:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return modules[name]

    return all(next(owner(name).parameters(recurse=False), None) is not None for name in adapter.shapes)


def _name_labels(adapter: _Adapter, kind: Any, config: transformers.PretrainedConfig) -> bool:
    """Give a config the labels of the adapter's head; returns whether the class has a head with labels."""
    few, more = (_shapes_with_labels(kind, config, count) for count in (5, 7))
    counts = {
        adapter.shapes[name][axis]
        for name in few.keys() & adapter.shapes.keys()
        for axis, (size, other) in enumerate(zip(few[name], more[name], strict=True))
        if size != other
    }
    if counts:
        (count,) = counts
        named = next((c for c in _configs(adapter, config) if c.num_labels == count), None)
        if named is None:
            config.num_labels = count
        else:
            config.id2label, config.label2id = named.id2label, named.label2id
            config.problem_type = named.problem_type
        if adapter.task_type != "QUESTION_ANS" and config.id2label[0] == "LABEL_0":
            LOG.warning(
                "%s: its labels have no names (%s has no config.json with id2label), so the output's are "
                "LABEL_0 to LABEL_%d",
                adapter.model,
                adapter.folder,
                count - 1,
            )
    return adapter.task_type in _HEADS or few != more


def _shapes_with_labels(
    kind: Any, config: transformers.PretrainedConfig, count: int
) -> dict[str, tuple[int, ...]]:
    config = copy.deepcopy(config)
    config.num_labels = count
    return {name: tuple(tensor.shape) for name, tensor in _skeleton(kind, config).state_dict().items()}


def _configs(
    adapter: _Adapter, base: transformers.PretrainedConfig
) -> Iterator[transformers.PretrainedConfig]:
    """Configs that may name the labels: one beside the adapter, else the base model's."""
    with contextlib.suppress(OSError, ValueError):
        yield transformers.AutoConfig.from_pretrained(adapter.folder)
    yield base
