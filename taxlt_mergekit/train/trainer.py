"""TODO"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train import settings as ts
from taxlt_mergekit.train.blocks import IGNORED, BlockStream
from taxlt_mergekit.train.console import perplexity
from taxlt_mergekit.train.models import has_bf16


@dataclass
class Run:
    """Everything that a run needs once its inputs were read and checked.

    Attributes:
        kind: which command.
        settings: resolved: nothing that the paper or the user decided is unset.
        arguments: Trainer's.
        model, tokenizer: loaded.
        train, validation: data sets for Trainer.
        collator: Trainer's data collator.
        inputs: what identifies base model and data; a resumed run must have the same.
        facts: lines for the start and for the model card, as (what, value).
        metrics: Trainer's `compute_metrics`, None where the loss is the metric.
        loss: Trainer's `compute_loss_func`, None for decoders, whose own loss is right.
    """

    kind: ts.Kind
    settings: ts.Settings
    arguments: TrainingArguments
    model: Any
    tokenizer: Any
    train: Any
    validation: Any
    collator: Any
    inputs: dict[str, Any]
    facts: list[tuple[str, str]] = field(default_factory=list)
    metrics: Any = None
    loss: Any = None

    @property
    def output(self) -> Path:
        return Path(self.arguments.output_dir)


def training_arguments(
    settings: ts.Settings, defaults: dict[str, Any], batch: ts.Batch, language: bool
) -> TrainingArguments:
    """Trainer's arguments: our defaults, then what the user set.

    Raises:
        UserError: TrainingArguments refuses a value.
    """
    given = {**defaults, **settings.arguments}
    given.update(per_device_train_batch_size=batch.per_device, gradient_accumulation_steps=batch.accumulation)
    given.setdefault("per_device_eval_batch_size", batch.per_device)
    given.setdefault("save_steps", given["eval_steps"])
    # Reporting, saving and the choice of the checkpoint as these commands need them.
    given.setdefault("report_to", "none")
    given.setdefault("eval_strategy", "steps")
    given.setdefault("save_strategy", given["eval_strategy"])
    given.setdefault("save_total_limit", 2)
    given.setdefault("disable_tqdm", not sys.stderr.isatty())
    given.setdefault("dataloader_pin_memory", torch.cuda.is_available())
    given.setdefault("bf16", has_bf16() and not given.get("fp16") and not given.get("use_cpu"))
    if given["bf16"] and not torch.cuda.is_available():
        given.setdefault("use_cpu", True)  # what TrainingArguments asks for before it allows bf16 on a CPU
    for name in [name for name in given if name.startswith("hub_") or name == "push_to_hub"]:
        del given[name]  # `publish` does it, once and at the end
    for old in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
        new = old.replace("gradient", "activation")
        if old in given and hasattr(TrainingArguments, new):
            given[new] = given.pop(old)
    try:
        return TrainingArguments(
            output_dir=str(Path(settings.output or "").absolute()),
            load_best_model_at_end=True,
            restore_callback_states_from_checkpoint=True,
            remove_unused_columns=not language,
            **given,
        )
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UserError(" ".join(str(error).split())) from error


# Positions are filled up to a multiple of this: libraries prepare a kernel for every size they meet.
MULTIPLE = 64


def head_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where the head is needed: the labelled positions, and a few others to make their number a round one.

    Args:
        labels: shape (batch, tokens), -100 where there is none.

    Returns:
        Booleans of that shape.
    """
    labelled = labels != IGNORED
    missing = -int(labelled.count_nonzero()) % MULTIPLE
    others = (~labelled).view(-1).nonzero()[:missing, 0]
    return labelled.view(-1).index_fill(0, others, True).view_as(labels)


class MaskedHead:
    """Cuts down what the body of a masked LM hands to its head, while positions are set."""

    def __init__(self, model: Any):
        """
        Args:
            model: a transformers model with a language-modelling head, or a peft model around one.
        """
        self._positions: torch.Tensor | None = None
        whole = model.get_base_model() if hasattr(model, "peft_config") else model
        if whole.base_model is not whole:
            whole.base_model.register_forward_hook(self._cut)

    @contextlib.contextmanager
    def at(self, positions: torch.Tensor) -> Iterator[None]:
        """Within: logits have shape (1, positions, vocabulary).

        Args:
            positions: booleans, shape (batch, tokens).
        """
        self._positions = positions
        try:
            yield
        finally:
            self._positions = None

    def _cut(self, _body: Any, _inputs: Any, output: Any) -> Any:
        if self._positions is None or output[0].shape[:2] != self._positions.shape:
            return output
        hidden = output[0][self._positions][None]
        if isinstance(output, tuple):
            return (hidden, *output[1:])
        output["last_hidden_state"] = hidden
        return output


class VectorTrainer(Trainer):
    """Trainer, with perplexity beside every loss of a language run and block streams read in their order.

    Attributes:
        masked_head: set for masked LMs.
    """

    masked_head: MaskedHead | None = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # DataParallel splits the batch, but not the positions.
        if self.masked_head is None or self.args.n_gpu > 1:
            return super().compute_loss(model, inputs, *args, **kwargs)
        with self.masked_head.at(head_positions(inputs["labels"])):
            return super().compute_loss(model, inputs, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, BlockStream):
            return torch.utils.data.SequentialSampler(dataset)
        return super()._get_train_sampler(train_dataset)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if isinstance(self.train_dataset, BlockStream):
            for name in ("loss", "eval_loss"):
                if name in logs:
                    logs[name.replace("loss", "perplexity")] = perplexity(logs[name])
        super().log(logs, start_time)


def loss_of_whole_batch(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None, smoothing: float
) -> torch.Tensor:
    """Cross-entropy of encoders and classifiers, as Trainer's `compute_loss_func`.

    The sum over this micro-batch is divided by the number of labels in the whole batch, so that a batch
    weighs the same however it is spread over devices and accumulation steps. The losses inside these models
    are means over their own micro-batch, which Trainer (transformers 5.23) takes for such shares and adds up.

    Args:
        outputs: with `logits`, shape (…, classes), or (1, `head_positions` of the labels, classes).
        labels: shape (…), -100 where there is none.
        num_items_in_batch: labels in the whole batch (one copy a device under DataParallel); None for one
            batch on its own.
        smoothing: label smoothing.
    """
    logits = outputs["logits"]
    if logits.shape[:-1] != labels.shape:
        labels = labels[head_positions(labels)]
    total = torch.nn.functional.cross_entropy(
        logits.view(-1, logits.shape[-1]),
        labels.view(-1),
        reduction="mean" if num_items_in_batch is None else "sum",
        label_smoothing=smoothing,
    )
    return total if num_items_in_batch is None else total / torch.as_tensor(num_items_in_batch).sum()


def make_trainer(run: Run, callbacks: list[TrainerCallback]) -> VectorTrainer:
    """Trainer with our callbacks in place of its own printing.

    Raises:
        UserError: what --report-to names is not there.
    """
    if run.settings.early_stopping_patience is not None:
        callbacks = [*callbacks, EarlyStoppingCallback(run.settings.early_stopping_patience)]
    try:
        trainer = VectorTrainer(
            model=run.model,
            args=run.arguments,
            train_dataset=run.train,
            eval_dataset=run.validation,
            data_collator=run.collator,
            processing_class=run.tokenizer,
            compute_metrics=run.metrics,
            compute_loss_func=run.loss,
        )
    except (RuntimeError, ImportError, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    if isinstance(run.settings, ts.LanguageSettings) and run.loss is not None:
        trainer.masked_head = MaskedHead(run.model)
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    for callback in callbacks:  # after that, because ours is a ProgressCallback too
        trainer.add_callback(callback)
    return trainer
