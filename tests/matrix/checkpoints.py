"""Tiny random checkpoints of one case: θ₀, and a task model and two language models that start from it."""

import copy
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel

from tests.matrix.cases import Case
from tests.matrix.exceptions import OF_CLASSES
from tests.matrix.reference import counterparts, tensors, units
from tests.matrix.tiny import tiny_config

# transformers would read each tiny tensor on a thread of its own, which takes longer than reading it.
os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")

LABELS = ("entailment", "neutral", "contradiction")
LABELLED = ("sequences", "tokens")  # a span has two ends, and a choice one score, whatever the labels
SPREAD, STEP = 0.05, 0.01  # of θ₀, and of a vector


def build(
    case: Case,
    folder: Path,
    *,
    labels: Sequence[str] = LABELS,
    dtype: torch.dtype = torch.float32,
    shard: str = "5GB",
) -> Path:
    """Save `theta0`, `task`, `src` and `tgt` under a folder; returns the folder.

    Args:
        labels: of the task model, where it has a head.
        dtype: of the files; vectors are made in float32.
        shard: size of a file.

    Raises:
        Exception: whatever transformers raises that cannot build a model of the case.
    """
    torch.manual_seed(zlib.crc32(case.name.encode()))
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}

    def save(model: PreTrainedModel, name: str) -> None:
        saved = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
        saved.save_pretrained(folder / name, max_shard_size=shard)

    base = _random(case.base, case.model_type)
    save(base, "theta0")
    for name, model_class, more in (
        ("task", case.task, named if case.head in LABELLED else {}),
        ("src", case.language, {}),
        ("tgt", case.language, {}),
    ):
        model = _random(model_class, case.model_type, **more)
        _start_from(model, base)
        save(model, name)
    return folder


def load(folder: Path, model_class: str) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    """A saved model, and the keys that were missing, unexpected or of another shape."""
    model, info = getattr(transformers, model_class).from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    gaps = {
        kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    return model, gaps


def config_of(model_class: type[PreTrainedModel], model_type: str) -> PretrainedConfig:
    """The tiny config of a class: the model type's, or its part that the class takes."""
    kind = CONFIG_MAPPING[model_type]
    taken = model_class.config_class
    kind = kind if taken is None or issubclass(kind, taken) else taken
    return tiny_config(kind, **OF_CLASSES.get(model_class.__name__, {}))


def _random(name: str, model_type: str, **changes: Any) -> PreTrainedModel:
    model_class = getattr(transformers, name)
    config = config_of(model_class, model_type)
    for key, value in changes.items():
        setattr(config, key, value)
    model = model_class(config)
    values = tensors(model)
    for first, *_ in units(model):
        if values[first].is_floating_point():
            values[first].copy_(SPREAD * torch.randn(values[first].shape))
    return model


def _start_from(model: PreTrainedModel, base: PreTrainedModel) -> None:
    """Give a model θ₀'s weights where they share them, and a small step away from them."""
    values, start, twins = tensors(model), tensors(base), counterparts(model, base)
    for first, *_ in units(model):
        if first in twins and values[first].is_floating_point():
            values[first].copy_(start[twins[first]] + STEP * torch.randn(values[first].shape))
