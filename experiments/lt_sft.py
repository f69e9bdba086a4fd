"""LT-SFT (Ansell et al. 2022) on the demo's world: sparse task vector + sparse language vector, λ = 1.

    taxlt demo --output demo-8 --seed 1 --seeds 8
    python experiments/lt_sft.py demo-8/seed-*

trains the demo's vectors once more with `taxlt train … --sparse`, from its θ₀ and with its flags, merges them
with `xlt_additive` at λ = 1, scores the test rows, and prints them beside the demo's MODEL and +TGT. Nothing
is chosen on validation data. A run that was stopped goes on; what is there is not done again.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import click
import yaml
from worlds import seed_of

from taxlt_mergekit.cells.lm_eval import read_lm_eval
from taxlt_mergekit.demo import files
from taxlt_mergekit.demo.results import read_outcome
from taxlt_mergekit.demo.stages import ENVIRONMENT, training
from taxlt_mergekit.paper.variants import MODEL

COLUMNS = {MODEL: "MODEL", "plus_tgt": "+TGT", "lt_sft": "LT-SFT"}


@click.command()
@click.argument("demos", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--share", default=0.05, show_default=True, help="K of both vectors, as a share.")
def main(demos: Sequence[Path], share: float) -> None:
    """Train, merge and score the sparse vectors of finished DEMOS, one a seed."""
    found: dict[tuple[str, str], list[float]] = {}
    for demo in demos:
        seed, started = seed_of(demo), time.monotonic()
        outcome = read_outcome(demo, seed)
        for code in files.TARGETS:
            ours = accuracy(demo, seed, code, share)
            scores = {column: outcome.scores[code, column].accuracy for column in (MODEL, "plus_tgt")}
            for column, score in (scores | {"lt_sft": ours}).items():
                found.setdefault((code, column), []).append(score)
        print(f"seed {seed}: {time.monotonic() - started:.0f} s")
    print(f"\nTest accuracy in percent, {len(demos)} seeds, K = {share:.0%} of the parameters.\n")
    print(f"{'':<8}" + "".join(f"{title:>10}" for title in COLUMNS.values()))
    for code in files.TARGETS:
        print(f"{code:<8}" + "".join(f"{fmean(found[code, column]):10.1f}" for column in COLUMNS))
    means = {}
    for column in COLUMNS:
        by_target = (found[code, column] for code in files.TARGETS)
        means[column] = [fmean(scores) for scores in zip(*by_target, strict=True)]
    for name, function in (("mean", fmean), ("lowest", min), ("highest", max)):
        print(f"{name:<8}" + "".join(f"{function(means[column]):10.1f}" for column in COLUMNS))


def accuracy(demo: Path, seed: int, code: str, share: float) -> float:
    """Test accuracy of LT-SFT on a target, in percent."""
    folder = f"sparse/{share:g}"
    vectors = {"task": f"{folder}/{files.TASK}", "target": f"{folder}/{code}"}
    for name, output in zip((files.TASK, code), vectors.values(), strict=True):
        command = training(seed, name).command
        run(demo, *command, "--sparse", f"{share:g}", "--output", output, "--resume")
    recipe, merged, scores = (f"{folder}/{code}{end}" for end in (".yml", "_merged", "_scores"))
    models = [
        {"model": vectors["task"], "parameters": {"role": "task"}},
        {"model": vectors["target"], "parameters": {"role": "target", "weight": 1.0}},
    ]
    content = {"merge_method": "xlt_additive", "base_model": files.BASE, "models": models, "dtype": "float32"}
    (demo / recipe).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    if not (demo / merged / "config.json").exists():
        run(demo, "mergekit-yaml", recipe, merged)
    if not (results := list((demo / scores).rglob("results_*.json"))):
        model = ("--model", "hf-seq-cls", "--model_args", f"pretrained={merged}", "--batch_size", "32")
        tasks = ("--tasks", files.task(code), "--include_path", files.TASKS)
        run(demo, "lm_eval", *model, *tasks, "--output_path", scores, "--log_samples")
        results = list((demo / scores).rglob("results_*.json"))
    [cell] = [cell for cell in read_lm_eval(results[0]) if cell.task == files.task(code)]
    return 100 * cell.metrics["acc"]


def run(demo: Path, *command: str) -> None:
    """Run a command in a demo's folder, with the demo's environment; what it says goes to sparse/log.txt."""
    environment = os.environ | ENVIRONMENT | {"HF_HOME": str((demo / "cache").absolute())}
    (demo / "sparse").mkdir(exist_ok=True)
    with (demo / "sparse" / "log.txt").open("a", encoding="utf-8") as log:
        subprocess.run(command, cwd=demo, env=environment, check=True, stdout=log, stderr=log)


if __name__ == "__main__":
    main()
