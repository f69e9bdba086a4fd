"""A training run in a process of its own, one of whose operations on files fails."""

from typing import Any

import safetensors.torch
import torch
import transformers

from taxlt_mergekit.train import prepare, run
from tests.helpers.faults import Ended, Fault, run_forked


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
