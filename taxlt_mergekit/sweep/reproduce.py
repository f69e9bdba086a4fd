"""What the paper's tables and figures need: training runs, sweeps and a report, as commands.

Estimates are for the paper's GPU: a language vector took it 24 hours (appendix G), which says how many tokens
it trains on a second; the other runs are counted in tokens.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from taxlt_mergekit.cells.store import read_cells
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.catalog import Size, recipe_path, vector_folder
from taxlt_mergekit.paper.recipes import recipe_files
from taxlt_mergekit.paper.training import LANGUAGE_BATCH_SIZE, LANGUAGE_STEPS, SEQUENCE_LENGTH, TASK_DEFAULTS
from taxlt_mergekit.paper.variants import MODEL, VARIANTS, VariantKey
from taxlt_mergekit.sweep.points import FACTORS, grid_points, parse_values

DENSITIES = "0.05,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"  # "from 5% to 90%"; the steps are not in the paper
ALL: tuple[VariantKey, ...] = tuple(VARIANTS)
RECIPES = "merge_configs"  # where `taxlt recipes` writes them

LANGUAGE_HOURS = 24  # appendix G
CHECKPOINT_GB: dict[Size, float] = {"base": 1.11, "large": 2.24}
# Rows and tokens a row, for the estimates: table 6, and lengths that were rounded.
TASK_ROWS = {"multinli": (393_000, 45), "marc": (160_000, 70), "smsa": (11_000, 45)}
DOCUMENTS = {  # validation rows, test rows, tokens a row
    "xnli": (2490, 5010, 45),
    "americas_nli": (710, 750, 55),
    "marc": (4000, 4000, 70),
    "nusax": (100, 400, 45),
}
FORWARD_SHARE = 1 / 3  # of the time of a training step


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper: models, benchmarks and variants, and what is varied."""

    models: dict[Size, tuple[str, ...]]
    variants: tuple[VariantKey, ...] = ALL
    varies: Literal["weight", "density"] = "weight"
    test: bool = False


_LOW_RESOURCE = ("americas_nli", "nusax")
_EVERY = ("xnli", "americas_nli", "marc", "nusax")
EXPERIMENTS = {
    "table2": Experiment({"base": ("xnli", *_LOW_RESOURCE)}, test=True),
    "table3": Experiment({"base": _EVERY}, ("plus_src_plus_tgt",)),
    "table4": Experiment({"large": _LOW_RESOURCE}, test=True),
    "table7": Experiment({"base": ("marc",)}, test=True),
    "table8": Experiment({"large": _LOW_RESOURCE}, test=True),
    "table9": Experiment({"base": _EVERY, "large": _LOW_RESOURCE}),
    "figure1": Experiment({"base": ("xnli", "americas_nli")}, ("plus_src_plus_tgt",), "density"),
    "figure2": Experiment({"base": ("marc", "nusax")}, ("plus_src_plus_tgt",), "density"),
    "figure3": Experiment({"base": _EVERY}, ("plus_tgt",), "density"),
}


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        arguments: of `taxlt`; one with braces stands for several, as in bash.
        state: what is there of it, for a reader.
        done: nothing is left to do.
        hours, gigabytes: estimates of what is left to do, and of what it leaves on the disk.
        needs: a file of the user's that must be there.
    """

    arguments: tuple[str, ...]
    state: str = ""
    done: bool = False
    hours: float = 0.0
    gigabytes: float = 0.0
    needs: str | None = None

    @property
    def command(self) -> str:
        """As one types it into bash."""
        return " ".join(["taxlt", *(a if "{" in a else shlex.quote(a) for a in self.arguments)])


def plan(name: str, output: Path, options: Sequence[str] = ()) -> list[Step]:
    """The commands of an experiment in the order in which they can run.

    Args:
        name: a key of `EXPERIMENTS`.
        output: folder of results; those of a benchmark are shared between experiments.
        options: further options of `taxlt sweep`.
    """
    experiment = EXPERIMENTS[name]
    trainings: dict[tuple[str, ...], Step] = {}
    sweeps, folders = [], []
    for size, benchmarks in experiment.models.items():
        for benchmark in benchmarks:
            for step in _trainings(size, benchmark, experiment.variants):
                trainings.setdefault(step.arguments, step)
            sweeps.append(_sweep(experiment, size, benchmark, output, options))
            folders.append(str(_folder(experiment, size, benchmark, output)))
    written = all(Path(RECIPES, path).exists() for path, _ in recipe_files())
    recipes = Step(("recipes",), "written" if written else "", written)
    report = Step(("report", *folders, "--against", "paper", "--output", str(output / name)))
    return [recipes, *trainings.values(), *sweeps, report]


def _trainings(size: Size, benchmark: str, variants: Sequence[VariantKey]) -> list[Step]:
    entry, model = catalog.load().benchmarks[benchmark], catalog.load().models[size]
    roles = {role for variant in variants for role in VARIANTS[variant].signs}
    codes = [entry.source] if "source" in roles else []
    codes += entry.languages if "target" in roles else []
    rows, length = TASK_ROWS[entry.task_vector]
    epochs = TASK_DEFAULTS[entry.task_vector, size].num_train_epochs
    task = ("task", model.id, "--task", entry.task_vector)
    steps = [_training(size, task, entry.task_vector, rows * length * epochs / _tokens_an_hour(size))]
    for code in codes:
        language = ("language", model.id, "--corpus", f"{code}.txt", "--lang", code)
        steps.append(_training(size, language, code, LANGUAGE_HOURS, needs=f"{code}.txt"))
    return steps


def _training(
    size: Size, arguments: tuple[str, ...], vector: str, hours: float, needs: str | None = None
) -> Step:
    kind, model, *_ = arguments
    folder = vector_folder(model, "task" if kind == "task" else "lang", vector)
    command, gigabytes = ("train", *arguments, "--resume"), CHECKPOINT_GB[size]
    if Path(folder, "config.json").exists():
        return Step(command, f"in {folder}", done=True, gigabytes=gigabytes)
    return Step(command, hours=hours, gigabytes=gigabytes, needs=needs)


def _sweep(experiment: Experiment, size: Size, benchmark: str, output: Path, options: Sequence[str]) -> Step:
    languages = list(catalog.load().benchmarks[benchmark].languages)
    folder = _folder(experiment, size, benchmark, output)
    if experiment.varies == "weight":
        grid: tuple[str, ...] = ("--weight", FACTORS)
        points = grid_points(("target",), weight=parse_values(FACTORS, "--weight"))
    else:
        densities, selects = f"{DENSITIES},1", ("top", "bottom")
        grid = ("--density", densities, *(word for select in selects for word in ("--select", select)))
        points = grid_points(("target",), density=parse_values(densities, "--density"), select=selects)
    test = ("--test",) if experiment.test else ()
    recipes = _recipes(size, benchmark, experiment.variants, languages)

    wanted = {"dev": len(languages) * (len(points) * len(experiment.variants) + 1)}
    if experiment.test:
        wanted["test"] = len(languages) * (len(experiment.variants) + 1)
    variants = (MODEL, *experiment.variants)
    found = [
        cell
        for cell in read_cells(folder)
        if cell.status == "ok" and cell.variant in variants and not cell.is_part
    ]
    *documents, length = DOCUMENTS[benchmark]
    hours, there = 0.0, 0
    for (split, count), rows in zip(wanted.items(), documents, strict=False):
        finished = min(count, sum(cell.split == split for cell in found))
        there += finished
        hours += (count - finished) * rows * length * FORWARD_SHARE / _tokens_an_hour(size)
    return Step(
        ("sweep", *recipes, *grid, *test, "--output", str(folder), *options),
        f"{there} of {sum(wanted.values())} cells in {folder}",
        hours=hours,
    )


def _folder(experiment: Experiment, size: Size, benchmark: str, output: Path) -> Path:
    suffix = "_density" if experiment.varies == "density" else ""
    return output / catalog.load().models[size].folder / f"{benchmark}{suffix}"


def _recipes(
    size: Size, benchmark: str, variants: Sequence[VariantKey], languages: Sequence[str]
) -> list[str]:
    """Paths of recipes, with braces: one for each variant without a target language, one for all others."""
    targeted = [variant for variant in variants if "target" in VARIANTS[variant].signs]
    paths = [recipe_path(benchmark, size, variant, None) for variant in variants if variant not in targeted]
    paths.append(recipe_path(benchmark, size, _braces(targeted), _braces(languages)))
    return [f"{RECIPES}/{path}" for path in paths]


def _tokens_an_hour(size: Size) -> float:
    """In training, on the paper's GPU."""
    return LANGUAGE_STEPS[size] * LANGUAGE_BATCH_SIZE * SEQUENCE_LENGTH / LANGUAGE_HOURS


def _braces(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def expand(pattern: str) -> list[str]:
    """What bash makes of braces: `{a,b}_{c,d}` is a_c, a_d, b_c, b_d."""
    head, opened, rest = pattern.partition("{")
    if not opened:
        return [pattern]
    names, _, tail = rest.partition("}")
    return [head + name + end for name in names.split(",") for end in expand(tail)]


def show(name: str, steps: Sequence[Step]) -> None:
    """Print the commands as a script for bash; what is done stands in it as a comment."""
    click.echo(f"# {name} of Parović et al. 2024; hours on one GPU such as the paper's (RTX 3090), estimated")
    for step in steps:
        notes = [step.state] if step.state else []
        notes += [f"about {step.hours:.1f} h" if step.hours >= 0.05 else "minutes"] if not step.done else []
        notes += [f"{step.gigabytes:.1f} GB"] if step.gigabytes else []
        notes += [f"needs {step.needs}, raw text"] if step.needs and not Path(step.needs).exists() else []
        click.echo(f"\n# {'done: ' if step.done else ''}{', '.join(notes)}")
        click.echo(f"{'# ' if step.done else ''}{step.command}")
    left = sum(step.hours for step in steps)
    disk = sum(step.gigabytes for step in steps if not step.done)
    click.echo(f"\n# left: about {left:.0f} h, {disk:.0f} GB of checkpoints")


def carry_out(steps: Sequence[Step]) -> None:
    """Run what is missing, one command after the other.

    A sweep always runs: it knows by the contents of checkpoints which of its cells are finished.

    Raises:
        UserError: a corpus is missing, before anything is run; or a command failed.
    """
    lacking = [step.needs for step in steps if step.needs and not Path(step.needs).exists()]
    if lacking:
        raise UserError(
            f"{', '.join(lacking)}: no such file; language vectors need raw text, a document a line "
            "(the paper's corpora stand in its table 5)"
        )
    for step in steps:
        if step.done:
            continue
        click.echo(f"\n$ {step.command}")
        arguments = [word for pattern in step.arguments for word in expand(pattern)]
        code = subprocess.run([sys.executable, "-m", "taxlt_mergekit", *arguments], check=False).returncode
        if code:
            raise UserError(f"{step.command}: failed (exit code {code}); the same command goes on from there")
