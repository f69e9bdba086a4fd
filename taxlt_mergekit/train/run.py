"""A training run on transformers' Trainer: started, stopped, resumed, and left as a folder that recipes name.

While it runs, the output folder holds `training_settings.yaml` and Trainer's checkpoints. Weights, tokenizer
and model card are put beside them at the very end, `config.json` last, and the checkpoints go: a folder with
a `config.json` is a finished vector.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator

import torch
import transformers
from transformers.trainer_callback import TrainerState

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train import card as training_card
from taxlt_mergekit.train import folder as publishing
from taxlt_mergekit.train import settings as ts
from taxlt_mergekit.train.console import Lines, StopOnSignal, duration, is_main, perplexity, say
from taxlt_mergekit.train.folder import (
    FINISHED,
    STAGING,
    STATE_FILE,
    checkpoints,
    clear_errors,
    correct_paths,
    last_checkpoint,
    look_at_output,
)
from taxlt_mergekit.train.models import count_parameters, dense
from taxlt_mergekit.train.trainer import Run, VectorTrainer, make_trainer


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
