"""`taxlt train` in this process, on a small model and a made-up language."""

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from safetensors.torch import load_file

from taxlt_mergekit.cli import main
from taxlt_mergekit.train import command
from taxlt_mergekit.train.settings import Settings, TaskSettings
from tests.helpers.evaluation import write_rows, write_table
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


def settings_of(*arguments: str, kind: str = "language") -> Settings:
    """The settings that a command line means."""
    found = []

    def callback(config: Path | None, resume: bool, **given: object) -> None:
        found.append(command.collect(kind, click.get_current_context(), given, config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(getattr(command, kind), "callback", callback)
        getattr(command, kind).main(list(arguments), standalone_mode=False)
    return found[0]


def own_rows(**changes: object) -> TaskSettings:
    """Settings of `taxlt train task` that name these rows."""
    return TaskSettings(model="m", **changes)


def history(folder: Path) -> list[dict]:
    """The evaluations of a finished run."""
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry for entry in state["log_history"] if "eval_loss" in entry]


def table_rows(markdown: str) -> list[list[str]]:
    """The cells of all tables, a list a line, without their padding."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Have this process receive a signal while it trains its step `step`."""
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Have something happen while this process trains its step `step`."""
    from taxlt_mergekit.train.console import StopOnSignal

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == step - 1:
            act()

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


def smsa_and_nusax(folder: Path) -> tuple[list, list]:
    """SMSA and NusaX below `folder`, in the form of their files, with made-up words.

    NusaX is Indonesian (all parts) and Madurese (its test set), and has capitals and full stops. Of SMSA's 60
    rows a part, lower-cased and split into words, 12 are in NusaX: six as they are, six with two words more.

    Returns:
        The rows (text, label) of SMSA's training part that are in NusaX, and those that are not.
    """
    draw, labels = random.Random(2), ("negative", "neutral", "positive")
    syllables = [first + second for first in "bdgklmnprst" for second in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(400)]
    lines = [" ".join(draw.choices(words, k=draw.randint(8, 20))) for _ in range(156)]
    in_nusax, others = lines[:60], iter(lines[60:])
    for at, part in enumerate(("train", "validation", "test")):
        for code in ("ind", "mad") if part == "test" else ("ind",):
            texts = [f"{line.capitalize()}." for line in in_nusax[20 * at : 20 * at + 20]]
            rows = [{"text": text, "label": labels[number % 3]} for number, text in enumerate(texts)]
            write_rows(folder, "nusax", code, part, rows)
    found = {}
    for part, own in (("train", in_nusax[:30]), ("valid", in_nusax[30:])):
        texts = [[*own[:6], *(f"{line} ka lu" for line in own[6:12])], [next(others) for _ in range(48)]]
        found[part] = [[[f"{text} .", draw.choice(labels)] for text in kind] for kind in texts]
        rows = found[part][0] + found[part][1]
        draw.shuffle(rows)
        write_table(folder / "smsa" / f"{part}.tsv", rows)
    copied, kept = found["train"]
    return copied, kept


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory) -> None:
    """The cache of data sets in a temporary folder, one thread, and no hub."""
    import datasets
    import huggingface_hub
    import torch

    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("datasets")
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    patch.setenv("HF_DATASETS_CACHE", str(folder))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
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
