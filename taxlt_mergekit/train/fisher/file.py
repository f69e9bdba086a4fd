"""`fisher.safetensors` beside a finished model's weights."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import tqdm
from safetensors.torch import save_file

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.model_files import FISHER_FILE
from taxlt_mergekit.train.blocks import BlockStream
from taxlt_mergekit.train.fisher.diagonal import empirical_fisher, label_fisher
from taxlt_mergekit.train.prepare import Plan
from taxlt_mergekit.train.trainer import VectorTrainer


def write_fisher(trainer: VectorTrainer, plan: Plan, folder: Path, wanted: int) -> int:
    """Write the diagonal Fisher information of a trained model, under the names of its saved tensors.

    Args:
        trainer: with the trained model.
        plan: gives the rows or blocks.
        folder: where the model was saved.
        wanted: how many of the training rows or blocks; all where there are fewer.

    Returns:
        How many it was.

    Raises:
        UserError: a trained tensor is not in the saved files under its own name, or a value is not finite.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    alone = dict(model.named_parameters())
    rows = _Rows(plan, wanted, trainer.accelerator.device, set(inspect.signature(model.forward).parameters))
    if plan.objective == "labels":
        found = label_fisher(rows, lambda row: model(**row)["logits"], alone)
    else:
        found = empirical_fisher(rows, lambda row: trainer.compute_loss(model, row), alone)
    by_place = {id(alone[name]): tensor for name, tensor in found.items()}
    saved = _saved_names(folder)
    if lost := sorted(name for name, p in alone.items() if saved.isdisjoint(_same(p, parameters))):
        raise UserError(f"--fisher: {lost[0]} is saved under another name, which cannot be followed")
    if bad := sorted(name for name, tensor in found.items() if not tensor.isfinite().all()):
        raise UserError(f"--fisher: the squared gradients of {bad[0]} are not finite numbers")
    tensors = {name: by_place[id(p)].cpu().contiguous() for name, p in parameters.items() if name in saved}
    kind = "p(y|x) of the model" if plan.objective == "labels" else "empirical"
    save_file(tensors, folder / FISHER_FILE, {"format": "pt", "examples": str(len(rows)), "kind": kind})
    return len(rows)


def _same(parameter: Any, parameters: dict[str, Any]) -> set[str]:
    """All names of a parameter."""
    return {name for name, other in parameters.items() if other is parameter}


def _saved_names(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("model*.safetensors"):
        with safetensors.safe_open(path, "pt") as file:
            names.update(file.keys())
    return names


class _Rows:
    """Batches of one training row or block, on the model's device; a bar moves on with them."""

    def __init__(self, plan: Plan, wanted: int, device: torch.device, inputs: set[str]) -> None:
        self._plan, self._device, self._inputs = plan, device, inputs
        train = plan.train
        if isinstance(train, BlockStream):  # already in a random order
            self._chosen = list(range(min(wanted, len(train), len(train.blocks))))
        else:
            draw = np.random.default_rng(plan.arguments.seed)
            self._chosen = [int(at) for at in np.sort(draw.permutation(len(train))[:wanted])]

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for at in tqdm.tqdm(self._chosen, desc="Fisher", disable=self._plan.arguments.disable_tqdm):
            batch = self._plan.collator([self._plan.train[at]])
            if self._plan.objective == "labels":
                batch = {name: values for name, values in batch.items() if name in self._inputs - {"labels"}}
            yield {name: values.to(self._device) for name, values in batch.items()}
