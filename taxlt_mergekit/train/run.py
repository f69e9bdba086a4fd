"""A training run: started, stopped, resumed, and left as a folder that recipes name."""

import contextlib
import copy
import gc
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
import transformers
from transformers.trainer_callback import TrainerState

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.model_files import FISHER_FILE
from taxlt_mergekit.train import card, folder
from taxlt_mergekit.train.console import Lines, StopOnSignal, duration, is_main, perplexity, say
from taxlt_mergekit.train.fisher.file import write_fisher
from taxlt_mergekit.train.models import count_parameters
from taxlt_mergekit.train.prepare import Plan
from taxlt_mergekit.train.settings import check_same_run, write_settings
from taxlt_mergekit.train.sparse.counted import Sparse, chosen_from
from taxlt_mergekit.train.sparse.hold import HoldOthers, PullToStart
from taxlt_mergekit.train.sparse.selection import count_moved, most_moved
from taxlt_mergekit.train.sparse.ticket import TICKET_FILE, Ticket
from taxlt_mergekit.train.trainer import VectorTrainer, make_trainer, no_number


def carry_out(plan: Plan, resume: bool) -> None:
    """Train, keep the best checkpoint, write the folder.

    Raises:
        UserError: another run is there, the disk is full, memory is short, or no evaluation gave a number.
        SystemExit: the run was stopped by a signal and can be resumed (code 128 + the signal).
    """
    record = {
        "inputs": plan.inputs,
        "facts": [f"{name}: {value}" for name, value in plan.facts],
        "versions": {"transformers": transformers.__version__, "torch": str(torch.__version__)},
    }
    found = folder.look_at_output(plan.output, resume)
    if found != "nothing":
        check_same_run(plan.output, plan.settings, record)
    if found == "finished":
        if is_main():
            folder.tidy(plan.output)  # a run that was killed while it did
        say(f"{plan.output} is finished already: nothing to do")
        return
    announce(plan)
    repository = folder.create_repository(plan.output, plan.settings.arguments)
    if plan.arguments.world_size > 1:
        torch.distributed.barrier()  # every process has looked at the folder before one writes to it
    stop, lines = StopOnSignal(), Lines()
    with folder.clear_errors(plan.output):
        trainer, hold = None, None
        if plan.sparse is None:
            trainer = make_trainer(plan, [stop, lines])
        if is_main() and found == "nothing":
            plan.output.mkdir(parents=True, exist_ok=True)
            write_settings(plan.output, plan.kind, plan.settings, record)
        if plan.sparse is not None:
            ticket = first_phase(plan, plan.sparse, stop, lines)
            trainer, hold = second_phase(plan, plan.sparse, ticket, stop, lines)
            plan = replace(plan, facts=(*plan.facts, ("phase 1", ticket.kept)))
        assert trainer is not None
        if not restore_trained(trainer, plan):
            train(trainer, plan, stop, lines)
        if hold is not None:
            hold.release()
        finish(trainer, plan)
    if repository:
        folder.upload(plan.output, repository, plan.settings.arguments)


def first_phase(plan: Plan, sparse: Sparse, stop: StopOnSignal, lines: Lines) -> Ticket:
    """Phase 1 of a sparse run, on a copy of θ₀ in a folder of its own; or what an earlier run left of it.

    The best checkpoint decides, as in the authors' code, and as in phase 2.

    Raises:
        UserError: fewer than K parameters moved; and as `train`.
        SystemExit: a signal came.
    """
    arguments = copy.copy(plan.arguments)
    arguments.output_dir = str(plan.output / folder.FIRST_PHASE)
    first = replace(plan, model=copy.deepcopy(plan.model), arguments=arguments)
    file = first.output / TICKET_FILE
    if not file.is_file():
        say("phase 1 of 2: all parameters are trained")
        with folder.clear_errors(first.output):
            trainer = make_trainer(first, [stop, lines])
            starts, ends = (chosen_from(model, sparse.names) for model in (plan.model, first.model))
            if plan.settings.l1 is not None:
                trainer.add_callback(PullToStart(ends, starts, plan.settings.l1))
            if not restore_trained(trainer, first):
                train(trainer, first, stop, lines)
            if (moved := count_moved(starts, ends)) < sparse.k:
                raise UserError(
                    f"--sparse: {moved:,} parameters moved in phase 1, fewer than K = {sparse.k:,}; "
                    f"choose another --output and a --sparse of {moved} or less"
                )
            if is_main():
                Ticket(most_moved(starts, ends, sparse.k), kept_step(trainer, plan)).save(file)
            trainer.accelerator.wait_for_everyone()
    if is_main():
        folder.tidy(first.output)
    gc.collect()  # the trainer and its model refer to each other
    return Ticket.load(file, sparse.k)


def second_phase(
    plan: Plan, sparse: Sparse, ticket: Ticket, stop: StopOnSignal, lines: Lines
) -> tuple[VectorTrainer, HoldOthers]:
    """A trainer of θ₀ that trains the selected parameters (and a fresh head), and what holds it to them."""
    say(f"phase 2 of 2: {sparse.k:,} parameters are trained, from θ₀ again ({ticket.kept})")
    trainer = make_trainer(plan, [stop, lines])
    parameters = chosen_from(plan.model, sparse.names)
    hold = HoldOthers(parameters, ticket.selected)
    trainer.add_callback(hold)
    if plan.settings.l1 is not None:
        starts = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        trainer.add_callback(PullToStart(parameters, starts, plan.settings.l1))
    return trainer, hold


def announce(plan: Plan) -> None:
    """Print what is about to happen."""
    all_parameters, trained = count_parameters(plan.model)
    parameters = f"{all_parameters:,}" + (
        "" if trained == all_parameters else f", {trained:,} of them trained"
    )
    precision = (
        "bfloat16 autocast"
        if plan.arguments.bf16
        else "float16 autocast"
        if plan.arguments.fp16
        else "float32"
    )
    lines = [
        *plan.facts,
        ("parameters", parameters),
        ("precision", f"{precision} on {plan.arguments.device}"),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"{name:<{width}}  {value}")
    say(f"{'output':<{width}}  {plan.settings.output}\n")


def restore_trained(trainer: VectorTrainer, plan: Plan) -> bool:
    """Take up a run that was stopped after its last step, while its folder was made; False if it was not."""
    trained = plan.output / folder.STATE_FILE
    with plan.arguments.main_process_first(local=False, desc="looking at the trained model"):
        there = trained.is_file() and folder.correct_state(trained, plan.output, *best_by(plan))
    if there:
        trainer.state = TrainerState.load_from_json(str(trained))
        trainer._load_best_model()  # as Trainer does at the end of training
    return there


def best_by(plan: Plan) -> tuple[str, bool]:
    """The metric that the best checkpoint has, as the log names it, and whether more of it is better."""
    metric = str(plan.arguments.metric_for_best_model).removeprefix("eval_")
    return f"eval_{metric}", bool(plan.arguments.greater_is_better)


def train(trainer: VectorTrainer, plan: Plan, stop: StopOnSignal, lines: Lines) -> None:
    """Train to the end, from the last whole checkpoint if there is one.

    Raises:
        UserError: no evaluation gave a number.
        SystemExit: a signal came.
    """
    # One process after the other, because the main one sets aside and corrects what all read.
    with plan.arguments.main_process_first(local=False, desc="looking for a checkpoint"):
        some = folder.checkpoints(plan.output)
        checkpoint = folder.last_checkpoint(plan.output)
        if checkpoint is not None:
            folder.correct_state(checkpoint / folder.STATE_FILE, plan.output, *best_by(plan))
    if checkpoint is not None:
        say(f"going on from {checkpoint.name}")
    elif some:
        say("no whole checkpoint is left; training starts again")
    started = time.monotonic()
    with stop.listening(), contextlib.closing(lines):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.state
    if stop.received is not None and state.global_step < state.max_steps:
        kept = folder.last_checkpoint(plan.output)
        say(f"stopped at step {state.global_step:,}; {kept} is saved, go on with --resume")
        raise SystemExit(128 + stop.received)
    say(f"trained in {duration(time.monotonic() - started)}")
    if state.best_metric is None or not math.isfinite(state.best_metric):
        raise no_number(str(plan.arguments.metric_for_best_model))
    if is_main():
        # In one go: it says that training is over.
        staging = plan.output / folder.STAGING
        staging.mkdir(exist_ok=True)
        state.save_to_json(str(staging / folder.STATE_FILE))
        (staging / folder.STATE_FILE).replace(plan.output / folder.STATE_FILE)


def finish(trainer: VectorTrainer, plan: Plan) -> None:
    """Put the best checkpoint into the output folder as a model of its own, and remove the checkpoints."""
    state = trainer.state
    staging = plan.output / folder.STAGING
    if is_main():
        shutil.rmtree(staging, ignore_errors=True)
    # A slower process may still be reading the best checkpoint, which is removed below.
    trainer.accelerator.wait_for_everyone()
    if plan.settings.merge_lora:
        trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    if plan.cut is not None:
        plan.cut.restore(trainer.accelerator.unwrap_model(trainer.model))
    trainer.save_model(str(staging))
    if not is_main():
        return
    (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle; the settings file says it all
    if plan.settings.fisher is not None:
        rows = write_fisher(trainer, plan, staging, plan.settings.fisher)
        plan = replace(plan, facts=(*plan.facts, ("Fisher", f"{FISHER_FILE}, over {rows:,} examples")))
    text = card.write(plan, state.log_history, state.best_metric)
    (staging / "README.md").write_text(text, encoding="utf-8")
    folder.complete(plan.output)
    say(kept_step(trainer, plan))
    say(f"saved in {plan.settings.output}")


def kept_step(trainer: VectorTrainer, plan: Plan) -> str:
    """Which step's checkpoint is kept, and how good it is."""
    state = trainer.state
    best = f"step {state.best_global_step:,}" if state.best_global_step else "the best step"
    metric = str(plan.arguments.metric_for_best_model).removeprefix("eval_")
    value = (
        f"perplexity {perplexity(state.best_metric):.4g}"
        if metric == "loss"
        else f"{metric} {state.best_metric:.4g}"
    )
    return f"kept {best} of {state.global_step:,}: validation {value}"


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
