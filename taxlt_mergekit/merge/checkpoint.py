"""A model as its config and the headers of its files describe it, before a weight is read."""

import contextlib
import os
import re
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import transformers
from mergekit.architecture.auto import infer_vocabulary_axes
from mergekit.common import ModelReference
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions
from safetensors import safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.initialization import no_init_weights

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.merge.adapter import merged_checkpoint
from taxlt_mergekit.model_files import check_folder
from taxlt_mergekit.paper import remedies

# What torch.nn.DataParallel and torch.compile put before every name.
_WRAPPER = re.compile(r"(module\.|_orig_mod\.)+")


@dataclass(frozen=True)
class Header:
    """What a file says of a tensor before its values are read."""

    shape: tuple[int, ...]
    floating: bool


class Skeleton:
    """A model class under a config, without weights: how transformers names its tensors.

    A *place* is a tensor's name in a way that models with different heads share: below the base model
    (`roberta.`, `model.`) the name from there on, in a head the name behind that of the class.
    """

    def __init__(self, model: transformers.PreTrainedModel):
        self._class = type(model).__name__
        self.base_model_prefix = prefix = model.base_model_prefix
        self._prefix = f"{prefix}." if prefix and hasattr(model, prefix) else ""
        self._tensors = model.state_dict()
        transforms = get_model_conversion_mapping(model)
        self._renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
        self._converters = [t for t in transforms if isinstance(t, WeightConverter)]
        self._tied: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
        self.places = frozenset(map(self._place, self._tensors))
        self._vocabulary_axes: dict[str, int] = {}
        with contextlib.suppress(NotImplementedError):  # CANINE hashes characters and has no vocabulary
            self._vocabulary_axes = infer_vocabulary_axes(model)

    def place(self, name: str) -> str:
        """The place of a file's tensor, whatever version of transformers wrote the file.

        Tensors that the model holds fused (a layer's experts) keep a place each.
        """
        return self._place(self._renamed(name, []))

    def twins(self, name: str) -> list[str]:
        """The places of the tensors that this one is tied to, the one that is saved first."""
        renamed = self._renamed(name, [])
        kept = self._tied.get(renamed, renamed)
        group = [kept, *(name for name, source in self._tied.items() if source == kept)]
        return [self._place(name) for name in group]

    def places_of(self, name: str) -> list[str]:
        """The place of a file's tensor, and those of the tensors that it is tied to."""
        return [self.place(name), *self.twins(name)]

    def fused_place(self, name: str) -> str:
        """The place, in the model, of what a file's tensor is or becomes a part of."""
        return self._place(self._renamed(name, self._converters))

    def in_model(self, name: str) -> str | None:
        """The model's own name for a file's tensor; None for one that it holds fused with others."""
        renamed = self._renamed(name, [])
        return renamed if renamed in self._tensors else None

    def vocabulary_axis(self, name: str) -> int | None:
        """The axis of a file's tensor that counts the pieces of the vocabulary."""
        return self._vocabulary_axes.get(self._renamed(name, []))

    def _renamed(self, name: str, converters: list[WeightConverter]) -> str:
        return rename_source_key(name, self._renamings, converters, self.base_model_prefix, self._tensors)[0]

    def _place(self, renamed: str) -> str:
        if renamed.startswith(self._prefix):
            return renamed.removeprefix(self._prefix)
        return f"{self._class}:{renamed}"


def in_body(place: str) -> bool:
    """Whether a tensor's place is below the base model rather than in a head."""
    return ":" not in place


@dataclass(frozen=True)
class Checkpoint:
    """What the files of one model say before a weight is read.

    Attributes:
        headers: tensor name → what its file says of it.
    """

    model: ModelReference
    config: transformers.PretrainedConfig
    headers: dict[str, Header]
    trust_remote_code: bool = False
    _skeletons: dict[ModelReference, Skeleton] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def architecture(self) -> str:
        """The class that config.json names, or a language model of its kind where it names none."""
        if self.config.architectures:
            return self.config.architectures[0]
        for mapping in (transformers.MODEL_FOR_MASKED_LM_MAPPING, transformers.MODEL_FOR_CAUSAL_LM_MAPPING):
            if type(self.config) in mapping:
                return mapping[type(self.config)].__name__
        raise UserError(f"{self.model}: config.json must name its architecture, such as BertForMaskedLM")

    @property
    def skeleton(self) -> Skeleton:
        return self.skeleton_under(self)

    def skeleton_under(self, other: "Checkpoint") -> Skeleton:
        """This model's class under the config of another checkpoint.

        Raises:
            UserError: there is no such class, or it cannot be built with that config.
        """
        if other.model not in self._skeletons:
            with (
                translated(f"{self.model}: transformers cannot build its {self.architecture}"),
                torch.device("meta"),
                no_init_weights(),
            ):
                model = self._class()(other.config)
            model.tie_weights()
            self._skeletons[other.model] = Skeleton(model)
        return self._skeletons[other.model]

    @cached_property
    def places(self) -> dict[str, str]:
        """Place → the name of its tensor in the files; a tied twin's name where it has none itself."""
        found = {self.skeleton.place(unwrapped): name for name, unwrapped in self._unwrapped.items()}
        for name, unwrapped in self._unwrapped.items():
            for place in self.skeleton.twins(unwrapped):
                found.setdefault(place, name)
        return found

    @cached_property
    def wrapper(self) -> str:
        """What another library put before every name, such as `module.`."""
        match = _WRAPPER.match(next(iter(self.headers), ""))
        return match[0] if match and all(name.startswith(match[0]) for name in self.headers) else ""

    @cached_property
    def _unwrapped(self) -> dict[str, str]:
        return {name: name.removeprefix(self.wrapper) for name in self.headers}

    def _class(self) -> Any:
        if known := getattr(transformers, self.architecture, None):
            return known
        own = (getattr(self.config, "auto_map", None) or {}).values() if self.trust_remote_code else ()
        for name in own:
            if isinstance(name, str) and name.endswith(f".{self.architecture}"):
                return get_class_from_dynamic_module(name, self.model.model.path)
        raise UserError(
            f"{self.model}: transformers {transformers.__version__} has no class {self.architecture}, which "
            "config.json names (code of its own is run with --trust-remote-code)"
        )


def open_checkpoint(model: ModelReference, options: MergeOptions, start: str | None = None) -> Checkpoint:
    """Read a model's config and the headers of its files; fetches them where the model is on the hub.

    Args:
        start: θ₀'s name, which tells the command that makes a vector that is not there.

    Raises:
        UserError: no such model, no config, a truncated or missing file.
    """
    path = model.model.path
    remedy = "" if os.path.isdir(path) else remedies.for_model(path, start)
    if not os.path.isdir(path) and (path[0] in "/~." or not remedies.HUB_ID.fullmatch(path)):
        raise UserError(
            f"{path}: no such folder{_here(path)} (and not the name of a model on the hub){remedy}"
        )
    hint = "" if os.path.isdir(path) else f"(and there is no such folder{_here(path)}){remedy}"
    whole = merged_checkpoint(model, options)
    if os.path.isdir(whole.model.path):
        check_folder(whole.model.path)
    as_it_is = bool(options.verbosity)
    with translated(f"{model}: cannot be opened", hint, as_it_is=as_it_is):
        config = whole.config(trust_remote_code=options.trust_remote_code)
    with translated(f"{model}: a file of weights is missing, damaged or cut off", as_it_is=as_it_is):
        # mergekit looks up here by the recipe's name what it reads of a model.
        LoaderCache().loaders[model] = loader = LoaderCache().get(whole)
    if len(config.architectures or ()) > 1:
        raise UserError(f"{path}: config.json must name one architecture, not {config.architectures}")
    headers: dict[str, Header] = {}
    for shard in loader.index.shards:
        file = os.path.join(loader.index.base_path, shard.filename)
        with translated(f"{file}: missing, damaged or cut off", as_it_is=as_it_is):
            read = _safetensors_headers if loader.index.is_safetensors else _pickle_headers
            found = read(file)
        if options.lazy_unpickle and not (loader.index.is_safetensors or zipfile.is_zipfile(file)):
            raise UserError(f"{file}: --lazy-unpickle cannot read a file of this age; merge without it")
        missing = set(shard.contained_keys) - found.keys()
        if missing:
            raise UserError(f"{file}: has no tensor {min(missing)}, which the index puts there")
        headers |= {key: found[key] for key in shard.contained_keys}
    return Checkpoint(model, config, headers, options.trust_remote_code)


def _here(path: str) -> str:
    return "" if os.path.isabs(path) else f" in {os.getcwd()}, from where a recipe's relative paths count"


def _safetensors_headers(path: str) -> dict[str, Header]:
    with safe_open(path, framework="pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {
            key: Header(tuple(part.get_shape()), part.get_dtype().startswith(("F", "BF")))
            for key, part in slices.items()
        }


def _pickle_headers(path: str) -> dict[str, Header]:
    content = torch.load(path, map_location="meta", weights_only=True)
    if isinstance(content.get("state_dict"), dict):
        raise UserError(
            f"{path}: a training state with the weights under 'state_dict', not a model as transformers "
            "saves it; load it where it comes from and save it with save_pretrained"
        )
    if strangers := [key for key, value in content.items() if not isinstance(value, torch.Tensor)]:
        raise UserError(f"{path}: {strangers[0]!r} is no tensor, so this is not a file of weights")
    return {key: Header(tuple(value.shape), value.is_floating_point()) for key, value in content.items()}
