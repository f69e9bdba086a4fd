"""A model as its config and the headers of its files describe it, before a weight is read."""

import os
import re
from dataclasses import dataclass
from functools import cached_property

import transformers
from mergekit.architecture.conversion import can_convert_checkpoint_keys
from mergekit.common import ModelReference
from mergekit.io.tasks import LoaderCache
from mergekit.options import MergeOptions
from safetensors import SafetensorError, safe_open

from taxlt_mergekit.errors import UserError, first_line

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


# Names that checkpoints of older transformers versions use for the same tensors.
_LEGACY = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


@dataclass(frozen=True)
class Checkpoint:
    """What the files of one model say before a weight is read.

    Attributes:
        shapes: tensor name → shape; the shape is None where the file format does not tell it cheaply.
    """

    model: ModelReference
    config: transformers.PretrainedConfig
    shapes: dict[str, tuple[int, ...] | None]

    @property
    def architecture(self) -> str:
        return self.config.architectures[0]

    @cached_property
    def prefix(self) -> str:
        """What the names of the tensors below the head start with, such as `roberta.`."""
        model_class = getattr(transformers, self.architecture, None)
        return f"{getattr(model_class, 'base_model_prefix', '')}."

    def find(self, name: str, prefix: str) -> str | None:
        """The name under which this checkpoint has a tensor of the output, if it has it."""
        for candidate in (name, *aliases(name, prefix)):
            if candidate in self.shapes:
                return candidate
        if can_convert_checkpoint_keys(self.config.model_type, set(self.shapes), name):
            return name
        return None


def open_checkpoint(model: ModelReference, options: MergeOptions) -> Checkpoint:
    """Read a model's config and the headers of its files; fetches them where the model is on the hub.

    Raises:
        UserError: no such model, no config, a truncated or missing file.
    """
    path = model.model.path
    if not os.path.isdir(path) and (path[0] in "/~." or not _HUB_ID.fullmatch(path)):
        raise UserError(f"{path}: no such folder (and not the name of a model on the hub)")
    if model.lora and not options.lora_merge_cache:
        raise UserError(f"{model}: merging an adapter needs --lora-merge-cache FOLDER")
    try:
        config = model.config(trust_remote_code=options.trust_remote_code)
        index = LoaderCache().get(model).index
    except SafetensorError as error:
        raise UserError(f"{path}: a weights file is damaged or cut off ({first_line(error)})") from error
    except Exception as error:  # the hosts raise many types for a model that cannot be opened
        raise UserError(f"{model}: cannot be opened: {first_line(error)}") from error
    if not config.architectures or len(config.architectures) != 1:
        raise UserError(f"{path}: config.json must name one architecture, not {config.architectures}")
    return Checkpoint(model, config, _shapes(index))


def merged_reference(model: ModelReference, options: MergeOptions) -> ModelReference:
    """The model itself, or the checkpoint that mergekit makes of `base+adapter`."""
    return model.merged(
        cache_dir=options.lora_merge_cache,
        trust_remote_code=options.trust_remote_code,
        lora_merge_dtype=options.lora_merge_dtype,
    )


def aliases(name: str, prefix: str) -> list[str]:
    """Other names of a tensor: older ones, and the one without prefix of a checkpoint without head."""
    names = [name.replace(new, old) for new, old in _LEGACY if name.endswith(new)]
    if name.startswith(prefix):
        names += [other[len(prefix) :] for other in (name, *names)]
    return names


def _shapes(index) -> dict[str, tuple[int, ...] | None]:
    if not index.is_safetensors:
        return dict.fromkeys(index.tensor_paths)
    shapes: dict[str, tuple[int, ...] | None] = {}
    for shard in index.shards:
        path = os.path.join(index.base_path, shard.filename)
        try:
            with safe_open(path, framework="pt") as file:
                missing = set(shard.contained_keys) - set(file.keys())
                if missing:
                    raise UserError(f"{path}: has no tensor {min(missing)}, which the index puts there")
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in shard.contained_keys}
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: missing, damaged or cut off ({first_line(error)})") from error
    return shapes


def tied_patterns(checkpoint: Checkpoint) -> list[str]:
    """Patterns of tensors that are another tensor under a second name."""
    keys = getattr(getattr(transformers, checkpoint.architecture, None), "_tied_weights_keys", None)
    return list(keys or []) if getattr(checkpoint.config, "tie_word_embeddings", True) else []
