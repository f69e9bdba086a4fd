"""NusaX in languages that the encoder has not seen, from raw text to report.

    TAXLT_DATA=DIR python experiments/nusax/run.py --output nusax-run
    TAXLT_DATA=DIR python experiments/nusax/run.py --output nusax-quick --quick

It may be stopped at any time; the same command goes on where it was. What matters most comes first: MODEL,
+TGT and the control that needs no other vector, in all seeds; the other controls and variants; densities,
other methods, other task models. Of each, λ is chosen on validation data before it is tested.
Languages are those whose files are there (`languages.py`).
"""

import os
from pathlib import Path

import click
import results
import vectors
import yaml
from languages import SOURCE, targets
from rows import Languages, soup
from runner import Runner
from search import Search


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("nusax-run"), show_default=True)
@click.option("--quick", is_flag=True, help="One seed, few steps, two scaling factors: does it run?")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
def main(output: Path, quick: bool, seeds: int) -> None:
    """Run what is missing and write the report."""
    if "TAXLT_DATA" not in os.environ:
        raise click.ClickException("TAXLT_DATA must name the folder with nusax, smsa, mono and indonli")
    data = Path(os.environ["TAXLT_DATA"]).resolve()
    found = targets(data)
    output.mkdir(parents=True, exist_ok=True)
    run = Runner(output.resolve(), data)
    size = vectors.QUICK if quick else vectors.Size()
    seeds = 1 if quick else seeds
    weights = "0.5,1.0" if quick else None
    unseen = Search(run, Languages(found["unseen"]), "unseen", weights)

    vectors.prepare(run, [SOURCE, *found["seen"], *found["unseen"]], size)
    first = (("target", "other"), found["unseen"])
    controls = (("source",), [SOURCE]) if quick else (("source", "seen"), [SOURCE, unseen.languages.seen])
    for kinds, codes in (first, controls):
        for seed in range(1, seeds + 1):
            vectors.task(run, seed, vectors.TASK, size)
            for code in codes:
                vectors.language(run, seed, code, size)
            for kind in kinds:
                unseen.search(kind, seed, vectors.task_folder(seed, vectors.TASK))
        test(unseen, kinds, seeds)
        results.report(run)
    for seed in range(1, seeds + 1):
        unseen.regret(seed)
    results.report(run)
    if not quick:
        further(run, unseen, seeds)
        frozen(run, unseen, size)
        slow(run, unseen, size)
        seen_targets(run, found["seen"], size)
        sparse(run, unseen, size)


def test(search: Search, kinds: tuple[str, ...], seeds: int) -> None:
    for seed in range(1, seeds + 1):
        for kind in kinds:
            search.test(kind, seed)


def further(run: Runner, search: Search, seeds: int) -> None:
    """Densities, TIES and the mean of the task models: no training."""
    recipe, mean = run.folder / f"soup-{seeds}.yml", f"soup-{seeds}"
    models = [vectors.task_folder(seed, vectors.TASK) for seed in range(1, seeds + 1)]
    recipe.write_text(yaml.safe_dump(soup(models), sort_keys=False), encoding="utf-8")
    run.once("merges", "-m", "mergekit.scripts.run_yaml", recipe.name, mean)
    for seed in range(1, seeds + 1):
        search.densities(seed)
        search.search("ties", seed, vectors.task_folder(seed, vectors.TASK))
        search.search("soup", seed, mean)
    test(search, ("ties", "soup"), seeds)
    results.report(run)


def frozen(run: Runner, search: Search, size: vectors.Size) -> None:
    """A task model whose embeddings stay θ₀'s, one seed."""
    vectors.task(run, 1, vectors.FROZEN, size)
    search.search("frozen", 1, vectors.task_folder(1, vectors.FROZEN))
    test(search, ("frozen",), 1)
    results.report(run)


def slow(run: Runner, search: Search, size: vectors.Size) -> None:
    """Language vectors at the lower learning rate, one seed."""
    for code in search.languages.targets:
        vectors.language(run, 1, code, size, "slow")
    search.search("slow", 1, vectors.task_folder(1, vectors.TASK))
    test(search, ("slow",), 1)
    results.report(run)


def seen_targets(run: Runner, codes: list[str], size: vectors.Size) -> None:
    """Targets that θ₀ has seen, one seed, and what choosing their λ costs; each is the other's control."""
    search = Search(run, Languages(codes), "seen", None)
    for code in codes:
        vectors.language(run, 1, code, size)
    kinds = ("target", "other", "source")
    for kind in kinds:
        search.search(kind, 1, vectors.task_folder(1, vectors.TASK))
    test(search, kinds, 1)
    search.regret(1)
    results.report(run)


def sparse(run: Runner, search: Search, size: vectors.Size) -> None:
    """LT-SFT, one seed; λ is 1."""
    vectors.task(run, 1, vectors.SPARSE, size)
    for code in search.languages.targets:
        vectors.language(run, 1, code, size, "sparse")
    search.search("lt_sft", 1, "")
    test(search, ("lt_sft",), 1)
    results.report(run)


if __name__ == "__main__":
    main()
