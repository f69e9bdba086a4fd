"""A training run in a process of its own, one of whose operations on files fails."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers

from taxlt_mergekit.train import prepare, run
from taxlt_mergekit.train.settings import make_settings
from tests.helpers.faults import Ended, Fault, run_forked
from tests.helpers.tiny_models import tiny_xlmr


def write_through_python() -> None:
    """Have torch and safetensors write with `open`, whose operations can be made to fail."""
    save = torch.save

    def torch_save(content: object, path: Any, *rest: Any, **options: Any) -> None:
        with open(path, "wb") as file:
            save(content, file, *rest, **options)

    def save_file(tensors: dict, path: Any, metadata: dict | None = None) -> None:
        with open(path, "wb") as file:
            file.write(safetensors.torch.save(tensors, metadata))

    torch.save, transformers.modeling_utils.safe_save_file = torch_save, save_file


def carry_out(plan: prepare.Plan, resume: bool, fault: Fault | None = None) -> Ended:
    def action() -> None:
        write_through_python()
        run.carry_out(plan, resume)

    return run_forked(action, plan.output, fault)


def short_plan(folder: Path, text: Path, **more: Any) -> prepare.Plan:
    """Two steps of a very small model, two checkpoints, of which one is kept.

    Args:
        more: further settings.
    """
    lines = text.read_text(encoding="utf-8").splitlines()
    values = {
        "model": str(tiny_xlmr(folder / "model", lines, vocabulary=40, hidden=4, layers=1, positions=20)),
        "corpus": [str(text)],
        "output": str(folder / "out"),
        "validation_share": 0.01,
        **{"block_size": 16, "batch_size": 2, "learning_rate": 1e-2, "max_steps": 2, "eval_steps": 1},
        **{"save_total_limit": 1, "per_device_eval_batch_size": 16},
    }
    return prepare.make_plan(make_settings("language", values | more), resume=False)
