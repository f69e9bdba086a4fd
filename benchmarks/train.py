"""How fast `taxlt train language` trains beside a bare Trainer, and how its memory grows with the text.

    python benchmarks/train.py [--rounds 7] [--steps 20] [--megabytes 200]

Throughput: the same model, blocks and settings, in turn on ours and on transformers' own Trainer with its own
collator, in one process; the figure is the median over rounds of the ratio of seconds, and of CPU seconds,
which other work on the machine disturbs less. The bar is 1.05.

Memory: the most that is private to the command itself on 1 MB and on `--megabytes` of text, from reading to
the last step. Pages of the mapped file of blocks are not; the system takes them back when it needs them.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
VOCABULARY, BLOCK, BATCH = 8000, 128, 16


def make_text(path: Path, megabytes: float) -> None:
    """Lines of made-up words."""
    draw = random.Random(0)
    syllables = [first + second for first in "bdgklmnprst" for second in ("a", "i", "u", "o", "an", "ek")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            size += file.write(" ".join(draw.choices(words, k=40)) + "\n")


def make_model(folder: Path, text: Path, hidden: int, layers: int) -> None:
    """A random XLM-R of a given width and depth, with a tokenizer of the text."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.tiny_models import tiny_xlmr

    with text.open(encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(5000), strict=False)]
    tiny_xlmr(folder, lines, vocabulary=VOCABULARY, hidden=hidden, layers=layers)


def throughput(folder: Path, rounds: int, steps: int) -> None:
    import datasets
    import transformers

    from taxlt_mergekit.train.console import StopOnSignal
    from taxlt_mergekit.train.prepare import Plan, make_plan
    from taxlt_mergekit.train.settings import LanguageSettings
    from taxlt_mergekit.train.trainer import make_trainer

    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    text = folder / "text.txt"
    make_text(text, 2)
    make_model(folder / "model", text, hidden=128, layers=3)
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}

    def prepare(number: int) -> Plan:
        settings = LanguageSettings(
            model=str(folder / "model"),
            corpus=[str(text)],
            output=str(folder / f"out{number}"),
            batch_size=BATCH,
            block_size=BLOCK,
            arguments={"max_steps": steps, "eval_steps": 10 * steps, "disable_tqdm": True, "use_cpu": True},
        )
        return make_plan(settings, resume=False)

    def bare(plan: Plan) -> transformers.Trainer:
        # What training is given is the same; only the way to it differs.
        return transformers.Trainer(
            model=plan.model,
            args=plan.arguments,
            train_dataset=plan.train.blocks.with_format(None),
            data_collator=transformers.DataCollatorForLanguageModeling(plan.tokenizer, mlm_probability=0.15),
        )

    for number in range(rounds):
        for name in ("ours", "bare") if number % 2 else ("bare", "ours"):
            plan = prepare(2 * number + (name == "bare"))
            plan.arguments.eval_strategy, plan.arguments.save_strategy = "no", "no"
            plan.arguments.load_best_model_at_end, plan.arguments.logging_strategy = False, "no"
            trainer = make_trainer(plan, [StopOnSignal()]) if name == "ours" else bare(plan)
            wall, cpu = time.perf_counter(), time.process_time()
            trainer.train()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            print(f"{name}: {seconds[name][-1][0]:6.2f} s, {seconds[name][-1][1]:6.2f} CPU s", flush=True)
    tokens = steps * BATCH * BLOCK
    print(f"\n{steps} steps of {BATCH} × {BLOCK} tokens, median of {rounds} rounds")
    for name, found in seconds.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"{name}: {tokens / wall:,.0f} tokens/s, {tokens / cpu:,.0f} tokens/CPU s")
    ratios = [
        statistics.median(
            ours[at] / bare[at] for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True)
        )
        for at in (0, 1)
    ]
    print(f"ratio ours/bare: {ratios[0]:.3f} in seconds, {ratios[1]:.3f} in CPU seconds (bar: 1.05)\n")


def memory(folder: Path, megabytes: int) -> None:
    peaks = {}
    make_text(folder / "small.txt", 1)
    make_model(folder / "model", folder / "small.txt", hidden=64, layers=2)
    for size in (1, megabytes):
        text = folder / f"{size}.txt"
        make_text(text, size)
        command = [
            *(sys.executable, "-m", "taxlt_mergekit", "train", "language", str(folder / "model")),
            *("--corpus", str(text), "--output", str(folder / f"out{size}"), "--use-cpu"),
            *("--max-steps", "50", "--batch-size", str(BATCH), "--block-size", str(BLOCK)),
            *("--eval-steps", "50", "--validation-share", str(0.05 / size)),
        ]
        started = time.perf_counter()
        peaks[size] = watch(command, dict(os.environ, HF_DATASETS_CACHE=str(folder / f"cache{size}")))
        took = time.perf_counter() - started
        print(f"{size:4} MB of text: {peaks[size] / 1024:6.0f} MB private, {took:.0f} s", flush=True)
    print(f"ratio {megabytes} MB/1 MB: {peaks[megabytes] / peaks[1]:.3f}")


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_DATASETS_CACHE"] = str(Path(name) / "cache")
        throughput(Path(name), options.rounds, options.steps)
    with tempfile.TemporaryDirectory() as name:
        memory(Path(name), options.megabytes)


if __name__ == "__main__":
    main()
