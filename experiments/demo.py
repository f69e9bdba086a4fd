"""The demo on several seeds: mean and range of every column, and a sign test of +TGT against MODEL.

    python experiments/demo.py --output demo-8 --seed 1 --seeds 8

runs `taxlt demo` and prints what docs/demo.md quotes. `--read` prints it of a run that is there already.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import click
from scipy.stats import binomtest

from taxlt_mergekit.demo import files
from taxlt_mergekit.demo.results import COLUMNS, CONTROL, Outcome, read_outcome
from taxlt_mergekit.demo.summary import LANGUAGES, table
from taxlt_mergekit.paper.variants import MODEL


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo-8"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--seeds", type=click.IntRange(min=2), default=8, show_default=True)
@click.option("--read", is_flag=True, help="Run nothing; read what OUTPUT holds.")
def main(output: Path, seed: int, seeds: int, read: bool) -> None:
    """Run the demo on several seeds and summarise it."""
    if not read:
        command = ["taxlt", "demo", "--output", str(output), "--seed", str(seed), "--seeds", str(seeds)]
        subprocess.run(command, check=True)
    outcomes = [read_outcome(output / f"seed-{number}", number) for number in range(seed, seed + seeds)]
    print(summary(outcomes))


def summary(outcomes: Sequence[Outcome]) -> str:
    """Test accuracies in percent: by seed, their mean and range, and how often a column beats MODEL."""
    lines = [f"Seeds {outcomes[0].seed} to {outcomes[-1].seed}; test accuracy in percent.", ""]
    lines += [table(outcomes), "", "Mean over the two targets, by seed:", ""]
    lines.append(
        f"{'seed':<12}" + "".join(f"{title:>11}" for title in COLUMNS.values()) + f"{'on source':>11}"
    )
    rows = [[over_targets(outcome, column) for column in COLUMNS] + [outcome.source] for outcome in outcomes]
    named = [(str(outcome.seed), row) for outcome, row in zip(outcomes, rows, strict=True)]
    for name, function in (("mean", fmean), ("lowest", min), ("highest", max)):
        named.append((name, [function(column) for column in zip(*rows, strict=True)]))
    lines += [f"{name:<12}" + "".join(f"{value:11.1f}" for value in row) for name, row in named]
    lines += ["", "Points above MODEL, of every seed and target:", ""]
    for column in (column for column in COLUMNS if column != MODEL):
        lines.append(f"{COLUMNS[column]:<12} {_against_model(outcomes, column)}")
    gains = [over_targets(outcome, "plus_tgt") - over_targets(outcome, MODEL) for outcome in outcomes]
    control = [over_targets(outcome, CONTROL) - over_targets(outcome, MODEL) for outcome in outcomes]
    lines += ["", "What CI asserts of one seed, counted over these:", ""]
    lines.append(f"+TGT at least 10 points above MODEL: {sum(gain >= 10 for gain in gains)} of {len(gains)}")
    lines.append(f"control within 5 points of MODEL: {sum(abs(x) <= 5 for x in control)} of {len(control)}")
    lines.append(f"MODEL above 90 on the source: {sum(o.source > 90 for o in outcomes)} of {len(outcomes)}")
    return "\n".join(lines)


def over_targets(outcome: Outcome, column: str) -> float:
    """Mean test accuracy over the target languages."""
    return fmean(outcome.scores[code, column].accuracy for code in files.TARGETS)


def _against_model(outcomes: Sequence[Outcome], column: str) -> str:
    parts = []
    for code in files.TARGETS:
        differences = [o.scores[code, column].accuracy - o.scores[code, MODEL].accuracy for o in outcomes]
        won = sum(difference > 0 for difference in differences)
        different = sum(difference != 0 for difference in differences)
        p = binomtest(won, different).pvalue if different else 1.0
        parts.append(
            f"{LANGUAGES[code]}: mean {fmean(differences):+5.1f}, {min(differences):+5.1f} to "
            f"{max(differences):+5.1f}, above in {won} of {different}, sign test p = {p:.3f}"
        )
    return f"\n{'':<13}".join(parts)


if __name__ == "__main__":
    main()
