"""How fast `taxlt train language` trains beside a bare Trainer, and how its memory grows with the text.

    python benchmarks/train.py [--rounds 7] [--steps 20] [--megabytes 200]
    python benchmarks/train.py --megabytes 0 --also torch_compile=true --also dataloader_num_workers=1
    python benchmarks/train.py --megabytes 0 --rounds 1 --steps 2 --hidden 768 --layers 12 --pieces 250002 \\
        --block 256 --batch 8                           # the shape of XLM-R base; 13 GB

Throughput: the same model, blocks and settings, in turn on ours and on transformers' own Trainer with its own
collator, in one process; counted is the second half of the steps, without what starts first (compiling, other
processes). The figure is the median over rounds of the ratio of seconds, and of CPU seconds, which other work
on the machine disturbs less. `--also` has ours run once more with a setting changed. The bar is 1.05.

Memory: the most that is private to the command itself on 1 MB and on `--megabytes` of text, from reading to
the last step. Pages of the mapped file of blocks are not; the system takes them back when it needs them.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
VOCABULARY = 8000


@dataclass(frozen=True)
class Shape:
    """Of a model and of its batches; `pieces` are rows of the embeddings, of which text uses VOCABULARY."""

    hidden: int
    layers: int
    pieces: int
    block: int
    batch: int


SMALL = Shape(hidden=64, layers=2, pieces=VOCABULARY, block=128, batch=16)


def make_text(path: Path, megabytes: float) -> None:
    """Lines of made-up words."""
    draw = random.Random(0)
    syllables = [first + second for first in "bdgklmnprst" for second in ("a", "i", "u", "o", "an", "ek")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            size += file.write(" ".join(draw.choices(words, k=40)) + "\n")


def make_model(folder: Path, text: Path, shape: Shape) -> None:
    """A random XLM-R, with a tokenizer of the text."""
    import transformers

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.tiny_models import xlmr_tokenizer

    with text.open(encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(5000), strict=False)]
    tokenizer = xlmr_tokenizer(lines, VOCABULARY)
    tokenizer.save_pretrained(folder)
    config = transformers.XLMRobertaConfig(
        vocab_size=max(shape.pieces, len(tokenizer)),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(4, shape.hidden // 64),
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=shape.block + 2,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    transformers.XLMRobertaForMaskedLM(config).save_pretrained(folder)


def throughput(folder: Path, shape: Shape, rounds: int, steps: int, also: dict[str, Any]) -> None:
    import datasets
    import transformers

    from taxlt_mergekit.train.console import StopOnSignal
    from taxlt_mergekit.train.prepare import Plan, make_plan
    from taxlt_mergekit.train.settings import LanguageSettings
    from taxlt_mergekit.train.trainer import make_trainer

    class Clock(transformers.TrainerCallback):
        """Seconds and CPU seconds of the second half of the steps."""

        began = ended = (0.0, 0.0)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended = time.perf_counter(), time.process_time()
            if state.global_step == steps // 2:
                self.began = self.ended

        @property
        def seconds(self) -> tuple[float, float]:
            return self.ended[0] - self.began[0], self.ended[1] - self.began[1]

    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    text = folder / "text.txt"
    make_text(text, 2)
    make_model(folder / "model", text, shape)
    settings = {"ours": {}, "bare": {}} | {
        f"ours, {key}={value}": {key: value} for key, value in also.items()
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in settings}

    def prepare(number: int, more: dict[str, Any]) -> Plan:
        wanted = LanguageSettings(
            model=str(folder / "model"),
            corpus=[str(text)],
            output=str(folder / f"out{number}"),
            batch_size=shape.batch,
            block_size=shape.block,
            arguments={"max_steps": steps, "eval_steps": 10 * steps, "disable_tqdm": True, "use_cpu": True}
            | more,
        )
        return make_plan(wanted, resume=False)

    def bare(plan: Plan) -> transformers.Trainer:
        # What training is given is the same; only the way to it differs.
        return transformers.Trainer(
            model=plan.model,
            args=plan.arguments,
            train_dataset=plan.train.blocks.with_format(None),
            data_collator=transformers.DataCollatorForLanguageModeling(plan.tokenizer, mlm_probability=0.15),
        )

    for number in range(rounds):
        for name in list(settings)[:: -1 if number % 2 else 1]:
            plan = prepare(len(settings) * number + list(settings).index(name), settings[name])
            plan.arguments.eval_strategy, plan.arguments.save_strategy = "no", "no"
            plan.arguments.load_best_model_at_end, plan.arguments.logging_strategy = False, "no"
            trainer = bare(plan) if name == "bare" else make_trainer(plan, [StopOnSignal()])
            clock = Clock()
            trainer.add_callback(clock)
            trainer.train()
            seconds[name].append(clock.seconds)
            click.echo(f"{name}: {clock.seconds[0]:6.2f} s, {clock.seconds[1]:6.2f} CPU s")
    counted = steps - steps // 2
    click.echo(f"\n{counted} steps of {shape.batch} × {shape.block} tokens, median of {rounds} rounds")
    for name, found in seconds.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        ratios = [
            statistics.median(one[at] / bare[at] for one, bare in zip(found, seconds["bare"], strict=True))
            for at in (0, 1)
        ]
        click.echo(
            f"{name}: {wall / counted:.2f} s, {cpu / counted:.2f} CPU s a step; "
            f"{ratios[0]:.3f} and {ratios[1]:.3f} of bare"
        )


def memory(folder: Path, megabytes: int) -> None:
    peaks = {}
    make_text(folder / "small.txt", 1)
    make_model(folder / "model", folder / "small.txt", SMALL)
    for size in (1, megabytes):
        text = folder / f"{size}.txt"
        make_text(text, size)
        command = [
            *(sys.executable, "-m", "taxlt_mergekit", "train", "language", str(folder / "model")),
            *("--corpus", str(text), "--output", str(folder / f"out{size}"), "--use-cpu"),
            *("--max-steps", "50", "--batch-size", str(SMALL.batch), "--block-size", str(SMALL.block)),
            *("--eval-steps", "50", "--validation-share", str(0.05 / size)),
        ]
        started = time.perf_counter()
        peaks[size] = watch(command, dict(os.environ, HF_DATASETS_CACHE=str(folder / f"cache{size}")))
        took = time.perf_counter() - started
        click.echo(f"{size:4} MB of text: {peaks[size] / 1024:6.0f} MB private, {took:.0f} s")
    click.echo(f"ratio {megabytes} MB/1 MB: {peaks[megabytes] / peaks[1]:.3f}")


def watch(command: list[str], environment: dict[str, str]) -> int:
    """Run a command; the most memory in kB that was private to it (Linux)."""
    private = 0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        os.set_blocking(process.stderr.fileno(), False)
        said = b""
        while process.poll() is None:
            said += process.stderr.read() or b""
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            fields = dict(line.split(":", 1) for line in status.splitlines())
            if "RssAnon" in fields:
                private = max(private, int(fields["RssAnon"].split()[0]))
            time.sleep(0.02)
        if process.wait():
            sys.exit(said.decode()[-2000:])
    return private


def _settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    pairs = [value.partition("=") for value in values]
    return {key: yaml.safe_load(value) for key, _, value in pairs}


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--steps", default=20, show_default=True)
@click.option("--megabytes", default=200, show_default=True, help="0 leaves memory out.")
@click.option("--hidden", default=128, show_default=True)
@click.option("--layers", default=3, show_default=True)
@click.option("--pieces", default=VOCABULARY, show_default=True)
@click.option("--block", default=128, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option(
    "--also", metavar="KEY=VALUE", multiple=True, callback=_settings, help="A TrainingArguments field."
)
def main(rounds: int, steps: int, megabytes: int, also: dict[str, Any], **shape: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_DATASETS_CACHE"] = str(Path(name) / "cache")
        throughput(Path(name), Shape(**shape), rounds, steps, also)
    if megabytes:
        with tempfile.TemporaryDirectory() as name:
            memory(Path(name), megabytes)


if __name__ == "__main__":
    main()
