"""transformers' Trainer as these commands use it: loss, metrics, blocks in their order, and the masked head.

transformers' encoders compute the scores of the whole vocabulary for every token, of which the loss of a
masked LM uses the masked ones, 15 %. With XLM-R's 250,000 words that is most of the work. Heads look at one
token at a time, so the body's output is cut down to the masked tokens before the head gets it; loss and
gradients are the same.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from taxlt_mergekit.errors import UserError, one_line
from taxlt_mergekit.train.blocks import IGNORED, BlockStream
from taxlt_mergekit.train.console import perplexity
from taxlt_mergekit.train.prepare import Plan

# Positions are filled up to a multiple of this: libraries prepare a kernel for every size they meet.
MULTIPLE = 64


def make_trainer(plan: Plan, callbacks: Sequence[TrainerCallback]) -> "VectorTrainer":
    """Trainer with our callbacks in place of its own printing.

    Raises:
        UserError: what --report-to names is not there.
    """
    loss = partial(loss_of_whole_batch, smoothing=plan.arguments.label_smoothing_factor)
    try:
        trainer = VectorTrainer(
            model=plan.model,
            args=plan.arguments,
            train_dataset=plan.train,
            eval_dataset=plan.validation,
            data_collator=plan.collator,
            processing_class=plan.tokenizer,
            compute_metrics=scores if plan.objective == "labels" else None,
            compute_loss_func=None if plan.objective == "clm" else loss,  # a decoder's own is right
        )
    except (RuntimeError, ImportError, ValueError) as error:
        raise UserError(one_line(error)) from error
    if plan.objective == "mlm":
        trainer.masked_head = MaskedHead(plan.model)
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    for callback in callbacks:  # after that, because ours is a ProgressCallback too
        trainer.add_callback(callback)
    if plan.settings.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(plan.settings.early_stopping_patience))
    return trainer


class VectorTrainer(Trainer):
    """Trainer, with perplexity beside every loss of a language run and block streams read in their order.

    Attributes:
        masked_head: set for masked LMs.
    """

    masked_head: "MaskedHead | None" = None

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


def scores(prediction: Any) -> dict[str, float]:
    """Accuracy and macro-F1 of logits against labels, as Trainer's `compute_metrics`."""
    from sklearn.metrics import accuracy_score, f1_score  # of which a language run has no need

    logits = (
        prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    )
    guesses = logits.argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, guesses)),
        "f1": float(f1_score(prediction.label_ids, guesses, average="macro", zero_division=0)),
    }


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
