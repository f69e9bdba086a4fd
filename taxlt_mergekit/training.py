"""A training run on transformers' Trainer: started, stopped, resumed, and left as a folder that recipes name.

While it runs, the output folder holds `training_settings.yaml` and Trainer's checkpoints. Weights, tokenizer
and model card are put beside them at the very end, `config.json` last, and the checkpoints go: a folder with
a `config.json` is a finished vector.
"""

import contextlib
import errno
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from taxlt_mergekit import publishing, training_card
from taxlt_mergekit import training_settings as ts
from taxlt_mergekit.block_stream import BlockStream
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.masked_head import MaskedHead, head_positions
from taxlt_mergekit.training_console import Lines, StopOnSignal, duration, is_main, perplexity, say
from taxlt_mergekit.training_models import count_parameters, dense, has_bf16

STATE_FILE = "trainer_state.json"  # Trainer's name for it
STAGING = ".being-saved"
FINISHED = ("config.json", "adapter_config.json")


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


def look_at_output(folder: Path, resume: bool) -> str:
    """What the output folder holds: `nothing`, `unfinished` or `finished`.

    Raises:
        UserError: it holds something else, or a run while `resume` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if held <= {ts.SETTINGS_FILE}:  # a run that was stopped before its first checkpoint has nothing to lose
        return "nothing"
    if ts.SETTINGS_FILE not in held:
        raise UserError(f"--output {folder} is not empty and holds no run of this command; choose another")
    finished = not held.isdisjoint(FINISHED)
    if not resume:
        raise UserError(
            f"--output {folder} already holds "
            + ("a finished run; choose another folder, or remove it" if finished else "an unfinished run")
            + ("" if finished else "; add --resume to go on with it, or choose another folder")
        )
    return "finished" if finished else "unfinished"


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


def carry_out(run: Run, resume: bool) -> None:
    """Train, keep the best checkpoint, write the folder.

    Raises:
        UserError: another run is there, the disk is full, memory is short, or no evaluation gave a number.
        SystemExit: the run was stopped by a signal and can be resumed (code 128 + the signal).
    """
    record = {
        "inputs": run.inputs,
        "facts": [f"{name}: {value}" for name, value in run.facts],
        "versions": {"transformers": transformers.__version__, "torch": str(torch.__version__)},
    }
    found = look_at_output(run.output, resume)
    if found != "nothing":
        ts.check_same_run(run.output, run.settings, record)
    if found == "finished":
        say(f"{run.output} is finished already: nothing to do")
        return
    announce(run)
    publish_to = publishing.prepare(run.output, run.settings.arguments)
    if run.arguments.world_size > 1:
        torch.distributed.barrier()  # every process has looked at the folder before one writes to it
    stop, lines = StopOnSignal(), Lines()
    with clear_errors(run.output):
        trainer = make_trainer(run, [stop, lines])
        if is_main() and found == "nothing":
            run.output.mkdir(parents=True, exist_ok=True)
            ts.write_settings(run.output, run.kind, run.settings, record)
        trained = run.output / STATE_FILE  # written once training is over
        if trained.is_file():
            correct_paths(trained, run.output)
            trainer.state = TrainerState.load_from_json(str(trained))
            trainer._load_best_model()  # as Trainer does at the end of training
        else:
            checkpoint = last_checkpoint(run.output)
            if checkpoint is not None:
                say(f"going on from {checkpoint.name}")
            started = time.monotonic()
            with stop.listening(), contextlib.closing(lines):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if stop.received is not None and trainer.state.global_step < trainer.state.max_steps:
                kept = last_checkpoint(run.output)
                say(f"stopped at step {trainer.state.global_step:,}; {kept} is saved, go on with --resume")
                raise SystemExit(128 + stop.received)
            say(f"trained in {duration(time.monotonic() - started)}")
            if trainer.state.best_metric is None or not math.isfinite(trainer.state.best_metric):
                raise UserError(
                    f"{run.arguments.metric_for_best_model} was never a finite number on the validation "
                    "data, so there is no best checkpoint; a lower --learning-rate may help"
                )
            trainer.save_state()
        finish(trainer, run)
    if publish_to:
        publishing.publish(run.output, publish_to, run.settings.arguments)


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


def announce(run: Run) -> None:
    """Print what is about to happen."""
    all_parameters, trained = count_parameters(run.model)
    parameters = f"{all_parameters:,}" + (
        "" if trained == all_parameters else f", {trained:,} of them trained"
    )
    precision = (
        "bfloat16 autocast" if run.arguments.bf16 else "float16 autocast" if run.arguments.fp16 else "float32"
    )
    lines = [*run.facts, ("parameters", parameters), ("precision", f"{precision} on {run.arguments.device}")]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"{name:<{width}}  {value}")
    say(f"{'output':<{width}}  {run.settings.output}\n")


def checkpoints(folder: Path) -> list[Path]:
    """Trainer's checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; what a killed process or a full disk left half-written is removed."""
    for path in reversed(checkpoints(folder)):
        try:
            correct_paths(path / STATE_FILE, folder)  # Trainer writes it last
        except (OSError, ValueError):
            if is_main():
                shutil.rmtree(path, ignore_errors=True)
            continue
        return path
    return None


def correct_paths(state: Path, folder: Path) -> None:
    """Where a run's folder was moved, its saved state names the best checkpoint at the old place."""
    content = json.loads(state.read_text(encoding="utf-8"))
    best = content.get("best_model_checkpoint")
    if best and Path(best).parent != folder:  # Trainer would go on without its best
        content["best_model_checkpoint"] = str(folder / Path(best).name)
        if is_main():
            state.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def finish(trainer: VectorTrainer, run: Run) -> None:
    """Put the best checkpoint into the output folder as a model of its own, and remove the checkpoints."""
    state = trainer.state
    staging = run.output / STAGING
    if is_main():
        shutil.rmtree(staging, ignore_errors=True)
    # A slower process may still be reading the best checkpoint, which is removed below.
    trainer.accelerator.wait_for_everyone()
    if run.settings.merge_lora:
        trainer.model = dense(trainer.accelerator.unwrap_model(trainer.model))
    trainer.save_model(str(staging))
    if not is_main():
        return
    (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle; the settings file says it all
    card = training_card.write(
        run.kind, run.settings, run.facts, run.inputs, state.log_history, state.best_metric
    )
    (staging / "README.md").write_text(card, encoding="utf-8")
    for path in sorted(staging.iterdir(), key=lambda path: path.name in FINISHED):
        path.replace(run.output / path.name)
    staging.rmdir()
    for path in checkpoints(run.output):
        shutil.rmtree(path)
    best = f"step {state.best_global_step:,}" if state.best_global_step else "the best step"
    metric = run.arguments.metric_for_best_model.removeprefix("eval_")
    value = (
        f"perplexity {perplexity(state.best_metric):.4g}"
        if metric == "loss"
        else f"{metric} {state.best_metric:.4g}"
    )
    say(f"kept {best} of {state.global_step:,}: validation {value}")
    say(f"saved in {run.settings.output}")


@contextlib.contextmanager
def clear_errors(folder: Path) -> Iterator[None]:
    """A full disk and short memory, said in one line. What was half-written is removed, older work stays."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU's memory is too small; the same batch may fit with --gradient-accumulation-steps 4 (or "
            f"more), --gradient-checkpointing, or --bf16 ({str(error).splitlines()[0]})"
        ) from error
    except UserError:
        raise
    except Exception as error:
        if not disk_is_full(error, folder):
            raise
        if is_main():
            shutil.rmtree(folder / STAGING, ignore_errors=True)
            last_checkpoint(folder)
        kept = last_checkpoint(folder)
        then = f"make room and go on from {kept.name} with --resume" if kept else "make room and start again"
        raise UserError(f"the disk of {folder} is full; {then}") from error


@contextlib.contextmanager
def closing_processes() -> Iterator[None]:
    """Leave the group of processes that a launcher made in order, and let one of them speak in an error."""
    try:
        yield
    except UserError:
        if is_main():
            raise
        time.sleep(5)  # the launcher ends all processes with the first one that fails; the main one speaks
        raise SystemExit(1) from None
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def disk_is_full(error: BaseException | None, folder: Path) -> bool:
    """Whether an error comes from a full disk. torch and safetensors hide the number in their own errors."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        if any(mark in str(error) for mark in ("inline_container", "iostream error", "PytorchStreamWriter")):
            return shutil.disk_usage(folder if folder.exists() else Path.cwd()).free < 1 << 26
        error = error.__cause__ or error.__context__
    return False
