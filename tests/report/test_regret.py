"""What choosing λ costs, as `taxlt report` writes it, against plain loops over the same scores."""

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from taxlt_mergekit.cells.choices import Choice, Rated, append_choices
from taxlt_mergekit.cells.store import Groups, Parameters, append_cell
from taxlt_mergekit.report.regret import by_criterion, regrets
from taxlt_mergekit.report.study import Options, studies
from taxlt_mergekit.report.tables import Table
from tests.helpers.cells import make_cell
from tests.helpers.reports import figures, read_table, report

ROOT = Path(__file__).parents[2]
PLACES = [(language, seed) for language in ("aym", "quy") for seed in (1, 2)]
WEIGHTS = (0.7, 0.8, 0.9, 1.0)
GROUPS = Groups(embeddings=0.9, lower=0.4, middle=0.5, upper=1.2)
NAME = "americas_nli_xlm-roberta-base_plus_tgt_test"

DRAW = np.random.default_rng(3)
DEV, TEST = ({place: dict(zip(WEIGHTS, DRAW.random(4), strict=True)) for place in PLACES} for _ in range(2))
MODEL = {place: float(DRAW.random() / 2) for place in PLACES}
BY_GROUP = {place: float(DRAW.random()) for place in PLACES}
CHOSEN = {
    "labels": {place: max(WEIGHTS, key=DEV[place].__getitem__) for place in PLACES},
    "balance": dict.fromkeys(PLACES, 0.7),
}


def cell(variant: str, place: tuple[str, int], split: str, score: float, **parameters):
    language, seed = place
    return make_cell(
        f"{variant} {place} {split} {parameters}",
        recipe=f"merge_configs/{language}_plus_tgt.yml",
        variant=variant,
        language=language,
        seed=seed,
        split=split,
        task=f"americas_nli_{'dev_' if split == 'dev' else ''}{language}",
        parameters=Parameters(**parameters),
        metrics={"acc": score},
        documents=None,
    )


def choice(criterion: str, place: tuple[str, int], weight: float | None) -> Choice:
    """Of one λ with the grid's curve; without one of λ by group, with a curve that nobody scored."""
    by_group = Parameters(groups=GROUPS)
    curve = [Rated(parameters=Parameters(target_weight=w), value=DEV[place][w]) for w in WEIGHTS]
    return Choice(
        key=f"{criterion} {place} {weight}",
        recipe=f"merge_configs/{place[0]}_plus_tgt.yml",
        benchmark="americas_nli",
        language=place[0],
        variant="plus_tgt" if weight else "plus_tgt_per_group",
        model="FacebookAI/xlm-roberta-base",
        seed=place[1],
        criterion=criterion,
        parameters=Parameters(target_weight=weight) if weight else by_group,
        curve=curve if weight else [Rated(parameters=by_group, value=1), *curve],
    )


def cells():
    for place in PLACES:
        yield cell("model", place, "test", MODEL[place])
        yield cell("plus_tgt_per_group", place, "test", BY_GROUP[place], groups=GROUPS)
        yield cell("plus_tgt_per_group", place, "dev", 0.9, groups=GROUPS)
        yield cell("plus_tgt_per_group", place, "dev", 0.1, groups=Groups(embeddings=1.0))  # another trial
        for weight in WEIGHTS:
            yield cell("plus_tgt", place, "dev", DEV[place][weight], target_weight=weight)
            yield cell("plus_tgt", place, "test", TEST[place][weight], target_weight=weight)


def choices() -> list[Choice]:
    found = [choice(name, place, weight) for name, of in CHOSEN.items() for place, weight in of.items()]
    return found + [choice("labels", place, None) for place in PLACES]


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("regret")
    for one in cells():
        append_cell(folder, one)
    append_choices(folder, choices())
    done = report(folder, "--resamples", "200", "--select-per", "language")
    return done.stdout, folder / "report"


def score(name: str, place: tuple[str, int]) -> float:
    """The test score that a way of choosing ends at."""
    if name.startswith("λ"):
        return TEST[place][float(name[2:])]
    known = {"MODEL": MODEL[place], "labels, per group": BY_GROUP[place]}
    return known[name] if name in known else TEST[place][CHOSEN[name][place]]


def test_each_way_has_its_mean_loss_and_what_it_gains_least(reported):
    text, folder = reported
    table = read_table(folder / f"regret_{NAME}.csv")
    assert set(table) == {"labels", "balance", "labels, per group", "λ 0.8", "λ 0.9", "λ 1", "MODEL"}
    for name, row in table.items():
        losses = [100 * (max(TEST[place].values()) - score(name, place)) for place in PLACES]
        gains = [100 * (score(name, place) - MODEL[place]) for place in PLACES]
        assert row["n"] == "4"
        assert float(row["Mean loss"]) == pytest.approx(fmean(losses), abs=1e-3)
        assert float(row["Mean loss low"]) <= float(row["Mean loss"]) <= float(row["Mean loss high"])
        assert float(row["Largest"]) == pytest.approx(max(losses), abs=1e-3)
        assert float(row["Least gain"]) == pytest.approx(min(gains), abs=1e-3)
        assert row["Below MODEL"] == f"{sum(gain < 0 for gain in gains)} of 4"
    means = [float(row["Mean loss"]) for row in table.values()]
    assert means == sorted(means)
    assert "Per group: λ of embeddings and of layers in thirds" in text


def test_three_losses_have_no_interval():
    """Their resampled means would give the range, whatever the losses are."""
    fewer = [one for one in choices() if (one.language, one.seed) != PLACES[0]]
    for chosen, wanted in ((choices(), True), (fewer, False)):
        (study,) = studies(list(cells()), chosen)
        (table, *_) = [block for block in by_criterion(study, chosen, Options()) if isinstance(block, Table)]
        assert {row[2].low is not None for row in table.rows} == {wanted}


def test_a_search_is_a_row_by_language_and_no_curve(reported):
    text, folder = reported
    row = read_table(folder / "scores_americas_nli_xlm-roberta-base_test.csv")[
        "MODEL + TGT, λ per group by labels"
    ]
    for language in ("aym", "quy"):
        mean = fmean(BY_GROUP[place] for place in PLACES if place[0] == language)
        assert float(row[language.upper()]) == pytest.approx(100 * mean, abs=1e-3)
    assert "#### MODEL + TGT, λ per group" not in text


def test_every_language_and_seed_has_its_row(reported):
    _, folder = reported
    lines = (folder / f"regrets_{NAME}.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 7 * len(PLACES)
    assert any("embeddings 0.9, lower 0.4, middle 0.5, upper 1.2" in line for line in lines)


def test_a_grid_with_a_hole_on_test_data_has_no_best_point():
    hole = [
        one for one in cells() if one.key != cell("plus_tgt", PLACES[0], "test", 0, target_weight=0.7).key
    ]
    (study,) = studies(hole, choices())
    found = regrets(study, "plus_tgt", "test", choices())
    assert {(regret.language, regret.seed) for regret in found} == set(PLACES[1:])
    # And nothing to set the search beside where there is no grid at all.
    (study,) = studies([one for one in cells() if one.variant != "plus_tgt"], choices())
    assert regrets(study, "plus_tgt", "test", choices()) == []


def test_the_pages_table_is_what_the_report_makes_of_the_committed_cells(tmp_path):
    report(ROOT / "experiments/choosing-lambda", "--output", tmp_path)
    page = (ROOT / "docs/choosing-lambda.md").read_text(encoding="utf-8")
    published = figures(page.partition("## Toy languages")[2].partition("\n## ")[0])
    written = figures((tmp_path / "report.md").read_text(encoding="utf-8"))
    start = written.index(published[0])
    assert len(published) == 1 + 15
    assert written[start : start + len(published)] == published
    assert written[start + len(published)][1] == "Language"  # the next table: nothing was left out
