"""transformers' Trainer as these commands use it: loss, metrics, blocks in their order, and the masked head.

transformers' encoders compute the scores of the whole vocabulary for every token, of which the loss of a
masked LM uses the masked ones, 15 %. With XLM-R's 250,000 words that is most of the work. Heads look at one
token at a time, so the body's output is cut down to the masked tokens before the head gets it; loss and
gradients are the same.

Trainer's validation loss is a mean of the batches' means, so it changes with the batch. Here the losses of
all labels are added up and divided by their number.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.train.blocks import IGNORED, BlockStream
from taxlt_mergekit.train.console import perplexity
from taxlt_mergekit.train.prepare import Plan, Predicted

# Positions are filled up to a multiple of this: libraries prepare a kernel for every size they meet.
MULTIPLE = 64


def make_trainer(plan: Plan, callbacks: Sequence[TrainerCallback]) -> "VectorTrainer":
    """Trainer with our callbacks in place of its own printing.

    Raises:
        UserError: what --report-to names is not there.
    """
    loss = partial(loss_of_whole_batch, smoothing=plan.arguments.label_smoothing_factor)
    with translated("training cannot start"):
        trainer = VectorTrainer(
            model=plan.model,
            args=plan.arguments,
            train_dataset=plan.train,
            eval_dataset=plan.validation,
            data_collator=plan.collator,
            processing_class=plan.tokenizer,
            compute_metrics=scores if plan.objective == "labels" else mean_loss,
            compute_loss_func=None if plan.objective == "clm" else loss,  # a decoder's own is right
            preprocess_logits_for_metrics=_logits_alone,
        )
    trainer.objective = plan.objective
    arguments = plan.arguments
    if arguments.device.type == "cpu" and arguments.world_size == 1 and not arguments.torch_compile:
        add_touched_rows(plan.model)  # which torch.compile cannot take in
    if plan.objective == "mlm":
        trainer.masked_head = MaskedHead(plan.model)
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    for callback in callbacks:  # after that, because ours is a ProgressCallback too
        trainer.add_callback(callback)
    if plan.settings.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(plan.settings.early_stopping_patience))
    return trainer


def _logits_alone(outputs: Any, _labels: Any) -> Any:
    """Without the hidden states that encoder-decoders give besides, which are no part of a score."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def add_touched_rows(model: Any) -> None:
    """Have the gradient of shared embeddings added up in place, where a batch has touched rows.

    The output's gradient is a whole matrix, to which torch adds the input's as another one, filled with
    zeros: 2 × 768 MB to write for XLM-R's 250,000 pieces. As a sparse one it is added row by row; the sum is
    a whole matrix all the same, so clipping and optimizers see what they saw. On GPUs, which write such
    matrices in a millisecond, the order of a sparse sum is not the same each time; processes that share a
    batch cannot send a gradient that is half sparse.

    Args:
        model: whose embeddings are not shared is left as it is.
    """
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(inputs, torch.nn.Embedding) and getattr(outputs, "weight", None) is inputs.weight:
        inputs.sparse = True


class VectorTrainer(Trainer):
    """Trainer, with perplexity beside every loss of a language run and block streams read in their order.

    Attributes:
        objective: the plan's.
        masked_head: set for masked LMs.
    """

    objective: Predicted = "labels"
    masked_head: "MaskedHead | None" = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        with self._head_where_it_counts(inputs["labels"]):
            return super().compute_loss(model, inputs, *args, **kwargs)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Logits and labels, or the sums and counts of rows; no loss, which would be a mean of the batch."""
        if self.objective == "labels":
            _, logits, labels = super().prediction_step(model, inputs, False, ignore_keys)
            return None, logits, labels
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        with torch.no_grad(), self.compute_loss_context_manager(), self._head_where_it_counts(labels):
            logits = model(**inputs)["logits"]
        return None, *losses_of_rows(logits, labels, next_token=self.objective == "clm")

    def _head_where_it_counts(self, labels: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        # DataParallel splits the batch, but not the positions.
        if self.masked_head is None or self.args.n_gpu > 1:
            return contextlib.nullcontext()
        return self.masked_head.at(head_positions(labels))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best:
            self.control.should_save = True  # or the checkpoint to keep would not be there in the end
        elif not math.isfinite(self.state.best_metric):
            metric = str(self.args.metric_for_best_model)
            if math.isnan(metrics["eval_" + metric.removeprefix("eval_")]):
                raise no_number(metric)  # what is not a number now will never be one
        return is_best

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


def no_number(metric: str) -> UserError:
    """What is said where no evaluation gave a number."""
    return UserError(
        f"{metric} was never a finite number on the validation data, so there is no best checkpoint; a lower "
        "--learning-rate may help"
    )


def scores(prediction: Any) -> dict[str, float]:
    """Mean loss, accuracy and macro-F1 of logits against labels, as Trainer's `compute_metrics`."""
    from sklearn.metrics import accuracy_score, f1_score  # of which a language run has no need

    logits, labels = prediction.predictions, prediction.label_ids
    if np.isnan(logits).any():  # whose largest would be the first class
        return dict.fromkeys(("loss", "accuracy", "f1"), math.nan)
    guesses = logits.argmax(axis=-1)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))
    return {
        "loss": loss.item(),
        "accuracy": float(accuracy_score(labels, guesses)),
        "f1": float(f1_score(labels, guesses, average="macro", zero_division=0)),
    }


def mean_loss(prediction: Any) -> dict[str, float]:
    """The mean over all labels of what `losses_of_rows` gave, as Trainer's `compute_metrics`."""
    labels = int(prediction.label_ids.sum())
    return {"loss": float(prediction.predictions.sum(dtype=np.float64)) / labels if labels else math.nan}


def losses_of_rows(
    logits: torch.Tensor, labels: torch.Tensor, next_token: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each row of a batch, and over how many labels.

    Args:
        logits: shape (batch, tokens, vocabulary), or (1, `head_positions` of the labels, vocabulary).
        labels: shape (batch, tokens), -100 where there is none.
        next_token: a label belongs to the token before it.

    Returns:
        Sums and counts, shape (batch,).
    """
    counted = torch.zeros(len(labels), device=logits.device)
    rows = torch.arange(len(labels), device=logits.device)[:, None].expand(labels.shape)
    if next_token:
        labels = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
    if logits.shape[:-1] != labels.shape:
        positions = head_positions(labels)
        rows, labels = rows[positions], labels[positions]
    rows, labels = rows.reshape(-1), labels.reshape(-1)
    scored = logits.reshape(-1, logits.shape[-1]).float()
    losses = torch.nn.functional.cross_entropy(scored, labels, reduction="none")  # 0 where there is no label
    number = counted.index_add(0, rows, (labels != IGNORED).float()).long()
    return counted.index_add(0, rows, losses), number


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
        logits.view(-1, logits.shape[-1]), labels.view(-1), reduction="sum", label_smoothing=smoothing
    )
    number = (labels != IGNORED).sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
    return total / number.sum().clamp(min=1)  # a small batch may have nothing to predict


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
