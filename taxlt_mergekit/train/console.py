"""What a training run says while it goes on, and the signals it listens to."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import torch
import tqdm
from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback


def is_main() -> bool:
    """Whether this process speaks and writes for all that the launcher started."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "") -> None:
    """Print, once for all processes."""
    if is_main():
        click.echo(text)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf


class StopOnSignal(TrainerCallback):
    """Ctrl-C or SIGTERM: finish the step, save a checkpoint, stop. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: Any) -> None:
        if self.received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        say("\nstopping after this step …")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if self._any_process(args):
            control.should_save = True
            control.should_training_stop = True
        return control

    def _any_process(self, args: Any) -> bool:
        if args.world_size <= 1:
            return self.received is not None
        # A launcher's signal reaches the processes at different steps; all must stop at the same one.
        flag = torch.tensor(int(self.received or 0), device=args.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        self.received = int(flag.item()) or None
        return self.received is not None


class Lines(ProgressCallback):
    """Trainer's bar, with a line a log entry that is made for reading; the lines come without bars too."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._since = (time.monotonic(), state.global_step)
        self.current_step = state.global_step
        if state.is_world_process_zero:
            self.training_bar = tqdm.tqdm(
                total=state.max_steps,
                initial=state.global_step,
                dynamic_ncols=True,
                disable=args.disable_tqdm,
            )

    def on_prediction_step(self, args: Any, *others: Any, **kwargs: Any) -> None:
        if not args.disable_tqdm:
            super().on_prediction_step(args, *others, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        line = log_line(logs or {}, state, self._seconds_left(state)) if self.training_bar is not None else ""
        if line:
            self.training_bar.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        """End the bars' lines, so that an error stands on a line of its own."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()

    def _seconds_left(self, state: Any) -> float | None:
        started, first = self._since
        done = state.global_step - first
        if done <= 0:
            return None
        return (time.monotonic() - started) / done * (state.max_steps - state.global_step)


def log_line(logs: dict[str, float], state: Any, seconds_left: float | None) -> str:
    """One line for people; empty where the entry has no loss."""
    names = {
        "loss": "loss",
        "perplexity": "perplexity",
        "eval_loss": "validation loss",
        "eval_perplexity": "validation perplexity",
        "eval_accuracy": "accuracy",
        "eval_f1": "macro-F1",
        "learning_rate": "learning rate",
    }
    shown = [f"{label} {logs[name]:.4g}" for name, label in names.items() if name in logs]
    if not shown or "train_runtime" in logs:
        return ""
    left = f" · {duration(seconds_left)} left" if seconds_left is not None and "loss" in logs else ""
    return f"step {state.global_step:,} of {state.max_steps:,} · {' · '.join(shown)}{left}"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
