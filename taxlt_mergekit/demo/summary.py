"""What a demo shows of its results: a table, sentences, where things lie, and a picture."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from taxlt_mergekit.demo import files, world
from taxlt_mergekit.demo.results import COLUMNS, CONTROL, Outcome, curves
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.variants import MODEL
from taxlt_mergekit.report import plots
from taxlt_mergekit.report.plots import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Language code → its name with the code.
LANGUAGES = {plan.code: f"{plan.name} ({plan.code})" for plan in (world.SOURCE, *world.TARGETS)}


def summary(folders: Sequence[Path], outcomes: Sequence[Outcome], picture: Path) -> str:
    """What is printed at the end.

    Args:
        folders, outcomes: of each seed.
        picture: where `draw` put it.
    """
    first = folders[0]
    source = fmean(outcome.source for outcome in outcomes)
    lines = [
        "",
        "Test accuracy in percent, with the λ that validation data chose:",
        "",
        table(outcomes),
        "",
        f"MODEL on {LANGUAGES[files.SOURCE]}, the language of its labels: {source:.1f}",
        "control: the other target's vector in place of its own",
        "lm_eval's scores of the merged models are the sweep's to the last digit",
        "",
        "The first test sentence of each language on which MODEL and MODEL + TGT differ:",
    ]
    for code in (files.SOURCE, *files.TARGETS):
        example = outcomes[0].examples[code]
        answers = f"MODEL says {example.model}"
        answers += f", MODEL + TGT {example.merged}" if example.merged else ""
        lines += [
            f"  {LANGUAGES[code]}: {example.text}",
            f"    “{example.gloss}”, which is {example.label}",
            f"    {answers}",
        ]
    lines += [
        "",
        "Where it lies:",
        f"  {picture}  score by λ",
        f"  {first / files.COMMANDS}  every command, to be run in {first}",
        f"  {first / 'data'}, {first / files.TASKS}, {first / 'recipes'}  what the commands read",
        f"  {first / files.BASE}, {first / 'vectors'}, {first / files.MERGED}  checkpoints",
        f"  {first / files.SWEEP}, {first / 'control'}, {first / files.SCORES}  of taxlt sweep and lm_eval",
        f"  more tables: taxlt report {first / files.SWEEP} --select-per language",
    ]
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """The accuracies by target language, averaged over seeds, the chosen λ under each, and their mean."""
    width = max(map(len, LANGUAGES.values())) + 2
    lines = [" " * width + "".join(f"{title:>11}" for title in COLUMNS.values())]
    for code in files.TARGETS:
        lines.append(
            f"{LANGUAGES[code]:<{width}}" + "".join(f"{_mean(outcomes, code, c):11.1f}" for c in COLUMNS)
        )
        chosen = ([outcome.scores[code, column].weight for outcome in outcomes] for column in COLUMNS)
        lines.append(f"{'  λ':<{width}}" + "".join(f"{_span(weights):>11}" for weights in chosen))
    means = (fmean(_mean(outcomes, code, column) for code in files.TARGETS) for column in COLUMNS)
    lines.append(f"{'mean':<{width}}" + "".join(f"{value:11.1f}" for value in means))
    return "\n".join(lines)


def _mean(outcomes: Iterable[Outcome], code: str, column: str) -> float:
    """Test accuracy in percent on a target language, averaged over seeds."""
    return fmean(outcome.scores[code, column].accuracy for outcome in outcomes)


def _span(weights: Iterable[float | None]) -> str:
    """One λ, or the smallest and the largest of several seeds."""
    different = sorted({weight for weight in weights if weight is not None})
    return "–".join(f"{weight:g}" for weight in dict.fromkeys(different[:1] + different[-1:])) or "–"


def draw(folders: Iterable[Path], picture: Path) -> None:
    """Draw the scores by λ of all seeds.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        _figure(curves(folders)).savefig(picture)
    except OSError as error:
        raise UserError(f"{picture} cannot be written: {error.strerror or error}") from None


def _figure(found: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> "Figure":
    """Validation accuracy by λ: a panel a target language, a curve a variant, MODEL as a line."""
    panels = []
    for code in files.TARGETS:
        (_, model) = found[code][MODEL][0]
        drawn = tuple(
            plots.Curve(COLUMNS[column], style, tuple(found[code][column]))
            for style, column in enumerate((*CURVES, CONTROL))
        )
        panels.append(plots.Panel(LANGUAGES[code], "validation accuracy (%)", drawn, {plots.MODEL: model}))
    return plots.draw(panels, plots.SCALING_FACTOR)
