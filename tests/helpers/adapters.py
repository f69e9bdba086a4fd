"""peft adapters with random weights, on the checkpoints of `families.build`."""

from pathlib import Path
from typing import Any

import peft
import torch
import transformers


def make_adapter(
    base: Path,
    folder: Path,
    kind: Any = transformers.AutoModelForMaskedLM,
    seed: int = 1,
    labels: int | None = None,
    **settings: Any,
) -> dict[str, torch.Tensor]:
    """Save a random adapter of a base model; returns the tensors of both, as peft adds them up.

    Args:
        kind: class of transformers on which it is trained.
        labels: number of labels of a new head.
        settings: of peft.LoraConfig.
    """
    torch.manual_seed(seed)
    more = {} if labels is None else {"num_labels": labels}
    settings = {"target_modules": ["query", "value"], "r": 4, "lora_alpha": 8} | settings
    model = peft.get_peft_model(kind.from_pretrained(base, **more), peft.LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data.normal_(0, 0.1)
    model.save_pretrained(folder)
    return {name: tensor.detach().clone() for name, tensor in model.merge_and_unload().state_dict().items()}
