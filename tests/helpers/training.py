"""`taxlt train` in this process, on a small model and a made-up language."""

import os
import random
import signal
from pathlib import Path

import click.testing
import pytest
from safetensors.torch import load_file

from taxlt_mergekit.cli import main
from tests.helpers.hosts import Outcome
from tests.helpers.tiny_models import tiny_xlmr

SHORT = ("--batch-size", "8", "--block-size", "32", "--learning-rate", "1e-3", "--logging-steps", "5")


def train(*arguments: object, kind: str = "language") -> Outcome:
    """Run `taxlt train KIND …` through its click command, as the console script does."""
    result = click.testing.CliRunner().invoke(main, ["train", kind, *map(str, arguments)], prog_name="taxlt")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def refused(*arguments: object, kind: str = "language") -> str:
    """The one line that a refused command ends with."""
    outcome = train(*arguments, kind=kind)
    assert outcome.code == 1, outcome
    assert outcome.last_line.startswith("Error: ")
    assert "Traceback" not in outcome.stderr
    return outcome.last_line


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Have this process receive a signal while it trains its step `step`."""
    from taxlt_mergekit.train.console import StopOnSignal

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == step - 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(StopOnSignal, "on_step_begin", on_step_begin, raising=False)


def assert_same_weights(first: Path, second: Path, file: str = "model.safetensors") -> None:
    """Both folders hold the same tensors, bit by bit."""
    one, two = load_file(first / file), load_file(second / file)
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Lines of a made-up language: each word has few successors, so there is something to learn."""
    draw = random.Random(seed)
    syllables = ["ka", "lu", "mi", "to", "ren", "sa", "po", "ni"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(60)]
    after = {word: draw.sample(words, 3) for word in words}
    lines = []
    for _ in range(count):
        line = [draw.choice(words)]
        while len(line) < draw.randint(8, 20):
            line.append(draw.choice(after[line[-1]]))
        lines.append(" ".join(line))
    return lines


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory) -> None:
    """The cache of data sets in a temporary folder, one thread, and no hub."""
    import datasets
    import torch

    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("datasets")
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    patch.setenv("HF_DATASETS_CACHE", str(folder))
    patch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


@pytest.fixture(scope="session")
def small_text(tmp_path_factory, small_cache) -> Path:
    """A corpus of about 40 kB, one document a line."""
    path = tmp_path_factory.mktemp("text") / "xx.txt"
    path.write_text("\n".join(sentences(500)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_xlmr(tmp_path_factory, small_text) -> Path:
    """A random XLM-R masked LM, with dropout, whose tokenizer was trained on `small_text`."""
    lines = small_text.read_text(encoding="utf-8").splitlines()
    return tiny_xlmr(tmp_path_factory.mktemp("models") / "tiny-xlmr", lines, vocabulary=120)


@pytest.fixture(scope="session")
def small_rows(tmp_path_factory) -> tuple:
    """Flags for 64 training and 32 validation rows of pairs, labelled `same` or `other`."""
    folder = tmp_path_factory.mktemp("rows")
    lines, draw = sentences(200), random.Random(1)
    for name, count in (("train", 64), ("validation", 32)):
        table = ["premise\thypothesis\tlabel"]
        for _ in range(count):
            first, second = draw.sample(lines, 2)
            same = draw.random() < 0.5
            table.append(f"{first}\t{first if same else second}\t{'same' if same else 'other'}")
        (folder / f"{name}.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    files = ("--train", folder / "train.tsv", "--validation", folder / "validation.tsv")
    return (*files, "--columns", "premise,hypothesis")
