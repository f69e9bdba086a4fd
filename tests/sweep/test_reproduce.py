"""`taxlt sweep --reproduce`: commands that exist, what is there marked, what is missing run."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from taxlt_mergekit.cells.store import Coverage, append_cell, read_cells
from taxlt_mergekit.cli import main
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.recipes import recipe_files
from taxlt_mergekit.sweep.reproduce import EXPERIMENTS, expand, plan
from tests.helpers.cells import make_cell
from tests.helpers.hosts import forked
from tests.helpers.vectors import make_vectors


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_command_is_one_that_taxlt_knows_and_every_recipe_exists(name):
    known = {f"merge_configs/{path}" for path, _ in recipe_files()}
    steps = plan(name, Path("results"))
    for step in steps:
        words = [word for pattern in step.arguments for word in expand(pattern)]
        assert {word for word in words if word.endswith(".yml")} <= known
        options = [word for word in words if word.startswith("--")]
        depth = 2 if words[0] == "train" else 1
        text = CliRunner().invoke(main, [*words[:depth], "--help"]).output
        assert all(option in text for option in options), step.command
    sweeps = [step for step in steps if step.arguments[0] == "sweep"]
    assert len(sweeps) == sum(map(len, EXPERIMENTS[name].models.values()))


def test_table2_needs_35_language_vectors_and_1518_cells():
    steps = plan("table2", Path("results"))
    languages = [step for step in steps if step.arguments[:2] == ("train", "language")]
    # 14 of XNLI, 10 of AmericasNLI, 9 of NusaX, and both source languages.
    assert len(languages) == 35 and sum(step.hours for step in languages) == 35 * 24
    # Validation: 10 λ × 4 variants and MODEL; test: 4 variants and MODEL; 33 languages.
    assert sum(int(step.state.split()[2]) for step in steps if "cells" in step.state) == 33 * (41 + 5)


def test_trials_and_failures_do_not_count_as_done():
    fields = {"benchmark": "marc", "language": "de", "task": "marc_dev_de", "variant": "model"}
    folder = Path("results/xlm-roberta-base/marc")
    append_cell(folder, make_cell("a", coverage=Coverage(scored=10, total=60), **fields))
    append_cell(folder, make_cell("b", status="failed", reason="NaN", metrics={}, **fields))

    def sweep_step():
        return next(step for step in plan("table7", Path("results")) if step.arguments[0] == "sweep")

    assert sweep_step().state.startswith("0 of ")
    append_cell(folder, make_cell("c", coverage=Coverage(scored=60, total=60), **fields))
    assert sweep_step().state.startswith("1 of ")


def test_braces_are_expanded_as_in_bash():
    assert expand("m/{a,b}_{c,d}.yml") == ["m/a_c.yml", "m/a_d.yml", "m/b_c.yml", "m/b_d.yml"]
    assert expand("plain") == ["plain"]


def test_what_exists_is_marked():
    folder = Path("vectors/xlm-roberta-base/lang/de")
    folder.mkdir(parents=True)
    listed = CliRunner().invoke(main, ["sweep", "--reproduce", "table7"]).output
    assert "\ntaxlt train language FacebookAI/xlm-roberta-base --corpus de.txt --lang de" in listed
    (folder / "config.json").write_text("{}")
    listed = CliRunner().invoke(main, ["sweep", "--reproduce", "table7"]).output
    assert "# done: in vectors/xlm-roberta-base/lang/de" in listed
    assert "\n# taxlt train language FacebookAI/xlm-roberta-base --corpus de.txt --lang de" in listed
    assert "0 of 230 cells" in listed


def test_mistakes():
    for arguments, words in (
        (["--reproduce", "table5"], ["table5", "table2", "figure3"]),
        (["--reproduce", "table7", "--weight", "0.1"], ["--weight"]),
        (["--yes"], ["--reproduce"]),
        ([], ["RECIPES", "--reproduce"]),
        (["--reproduce", "table7", "--yes"], ["en.txt", "no such file"]),
    ):
        outcome = CliRunner().invoke(main, ["sweep", *arguments])
        last = outcome.output.strip().splitlines()[-1]
        assert outcome.exit_code == 1 and all(word in last for word in words), outcome.output
    assert not Path("vectors").exists() and not Path("merge_configs").exists()


def test_yes_runs_what_is_missing(here):
    benchmark = catalog.load().benchmarks["marc"]
    texts = [f"{word} {noun} {n}" for word in ("good", "bad") for noun in ("book", "lamp") for n in range(3)]
    for code in benchmark.languages:
        for split in ("dev", "test"):
            rows = [
                {"stars": str(1 + 4 * (i % 2)), "review_title": text, "review_body": f"{text} {code}"}
                for i, text in enumerate(texts)
            ]
            path = here / "data" / "marc" / f"dataset_{code}_{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_vectors(here, texts, list(benchmark.labels), ["en", *benchmark.languages], "marc")
    # A tiny θ₀ where the recipes look for the paper's.
    (here / "FacebookAI").mkdir()
    (here / "base").rename(here / "FacebookAI" / "xlm-roberta-base")
    (here / "vectors" / "base").rename(here / "vectors" / "xlm-roberta-base")
    outcome = forked(
        "taxlt", "sweep", "--reproduce", "table7", "--yes", cwd=here, TAXLT_DATA=str(here / "data")
    )
    assert outcome.code == 0, outcome.stderr
    cells = read_cells("results/xlm-roberta-base/marc")
    assert len(cells) == 230 and all(cell.status == "ok" for cell in cells)
    assert Path("results/table7/report.md").exists()
    sweep = next(step for step in plan("table7", Path("results")) if step.arguments[0] == "sweep")
    assert sweep.state.startswith("230 of 230 cells") and sweep.hours == 0
    assert shlex.split(sweep.command)[:2] == ["taxlt", "sweep"]
