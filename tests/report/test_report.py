"""`taxlt report` on results whose right answers are known."""

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from taxlt_mergekit.cells.store import CELLS_FILE, Cell, Coverage, Documents, append_cell
from taxlt_mergekit.paper.catalog import load
from taxlt_mergekit.paper.tables import printed_score
from taxlt_mergekit.report import bootstrap
from tests.helpers.cells import make_cell
from tests.helpers.hosts import console
from tests.helpers.reports import read_table, report

LANGUAGES = ("aym", "gn", "quy")
N = 120
TARGETS = {
    split: tuple(np.random.default_rng(i).integers(3, size=N).tolist())
    for i, split in enumerate(("dev", "test"))
}


def cell(variant: str, split: str, language: str, right: int, seed: int | None = None, **parameters) -> Cell:
    """A cell whose first `right` documents are right: the accuracy is right / N."""
    target = TARGETS[split]
    prediction = [label if i < right else (label + 1) % 3 for i, label in enumerate(target)]
    group = "americas_nli_dev" if split == "dev" else "americas_nli"
    return make_cell(
        f"{variant} {split} {language} {seed} {parameters}",
        variant=variant,
        split=split,
        language=language,
        task=f"{group}_{language}",
        seed=seed,
        parameters=parameters,
        metrics={"acc": right / N, "acc_stderr": 0.04},
        documents=Documents(target=target, prediction=prediction),
    )


def write_cells(folder: Path, cells: Iterable[Cell]) -> Path:
    for one in cells:
        append_cell(folder, one)
    return folder


def grid_cells() -> list[Cell]:
    """+TGT is best at 0.2 on validation data, at 0.3 on test data; Guarani alone is best at 0.1."""
    cells = []
    for i, language in enumerate(LANGUAGES):
        for split in ("dev", "test"):
            cells.append(cell("model", split, language, 40 + i))
        for weight, right in ((0.1, 50), (0.2, 70), (0.3, 60)):
            if language == "gn":
                right = {0.1: 75, 0.2: 65, 0.3: 55}[weight]
            cells.append(cell("plus_tgt", "dev", language, right + i, target_weight=weight))
            cells.append(
                cell(
                    "plus_src_plus_tgt",
                    "dev",
                    language,
                    right - 3,
                    source_weight=weight,
                    target_weight=weight,
                )
            )
        for density in (0.05, 0.5):
            for select, loss in (("top", 4), ("bottom", 9)):
                right = 70 - loss - round(8 * (1 - density))
                settings = {"density": density, "select": select, "scope": "global", "target_weight": 0.2}
                cells.append(cell("plus_tgt", "dev", language, right, **settings))
        cells.append(cell("plus_tgt", "test", language, 66 + i, target_weight=0.2))
        cells.append(cell("plus_tgt", "test", language, 90 + i, target_weight=0.3))
    return cells


SHOWN = (
    "--against",
    "paper",
    "--resamples",
    "500",
    "--html",
    "--baseline",
    "model",
    "--baseline",
    "plus_tgt",
)


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[str, Path]:
    folder = write_cells(tmp_path_factory.mktemp("results") / "plus_tgt", grid_cells())
    done = report(folder.parent, *SHOWN)
    assert f"Wrote {folder.parent / 'report' / 'report.md'}" in done.stderr
    return done.stdout, folder.parent / "report"


def test_what_is_printed_is_what_is_written(reported):
    text, folder = reported
    assert (folder / "report.md").read_text(encoding="utf-8").strip() == text.strip()
    for link in re.findall(r"\]\((.*?)\)", text):
        assert (folder / link).is_file()


def test_the_test_table_shows_the_factor_that_validation_chose(reported):
    text, folder = reported
    rows = read_table(folder / "scores_americas_nli_xlm-roberta-base_test.csv")
    assert list(rows) == ["MODEL", "MODEL + TGT"]
    for i, code in enumerate(("AYM", "GN", "QUY")):
        assert float(rows["MODEL"][code]) == pytest.approx(100 * (40 + i) / N, abs=1e-4)
        assert float(rows["MODEL + TGT"][code]) == pytest.approx(100 * (66 + i) / N, abs=1e-4)
    assert float(rows["MODEL + TGT"]["mean"]) == pytest.approx(100 * 67 / N, abs=1e-4)
    assert "λ: MODEL + TGT 0.2." in text
    # +SRC+TGT was searched but not tested.
    assert "MODEL + SRC + TGT" not in text.split("### Score by scaling factor")[0]
    line = next(line for line in text.splitlines() if line.startswith("| MODEL + TGT"))
    assert line.count("**") == 2 * 4


def test_differences_are_those_of_the_bootstrap(reported):
    text, folder = reported
    rows = read_table(folder / "differences_americas_nli_xlm-roberta-base_test.csv")
    by_key = {
        (c.variant, c.language, c.parameters.target_weight): c for c in grid_cells() if c.split == "test"
    }
    draws = bootstrap.resampled_differences(
        {code: {None: by_key["model", code, None].documents} for code in LANGUAGES},
        {"plus_tgt": {code: {None: by_key["plus_tgt", code, 0.2].documents} for code in LANGUAGES}},
        "acc",
        500,
        seed=0,
    )["plus_tgt"]
    draws["mean"] = np.mean([draws[code] for code in LANGUAGES], axis=0)
    for name, row in rows.items():
        ends = [100 * end for end in bootstrap.interval(draws[name.lower()])]
        assert float(row["MODEL + TGT"]) == pytest.approx(100 * 26 / N, abs=1e-4)
        assert [float(row["MODEL + TGT low"]), float(row["MODEL + TGT high"])] == pytest.approx(
            ends, abs=1e-4
        )
        assert row["MODEL + TGT excludes 0"] == "1"
    assert re.search(r"\| QUY +\| \+21\.67 \[\+\d\d\.\d\d, \+\d\d\.\d\d\] \\\* \|", text)


def test_differences_against_another_variant_are_the_same_turned_round(reported):
    """Both draw the same documents."""
    text, folder = reported
    assert "Differences against MODEL + TGT, in points:" in text
    of_model = read_table(folder / "differences_americas_nli_xlm-roberta-base_test.csv")
    other = read_table(folder / "differences_plus_tgt_americas_nli_xlm-roberta-base_test.csv")
    assert of_model.keys() == other.keys() == {"AYM", "GN", "QUY", "mean"}
    for name, row in of_model.items():
        low, high = (float(row[f"MODEL + TGT {end}"]) for end in ("low", "high"))
        turned = [float(other[name][column]) for column in ("MODEL", "MODEL low", "MODEL high")]
        assert turned == pytest.approx([-float(row["MODEL + TGT"]), -high, -low], abs=0.02)


def test_the_paper_stands_beside_with_its_table_and_the_same_languages(reported):
    text, folder = reported
    with open(folder / "paper_americas_nli_xlm-roberta-base_test.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ours, theirs, difference = rows[3:]
    assert [row[""] for row in (ours, theirs, difference)] == ["ours", "paper", "difference"]
    assert float(theirs["QUY"]) == 64.93
    assert float(theirs["mean"]) == pytest.approx((54.67 + 59.87 + 64.93) / 3, abs=1e-4)
    for code in ("AYM", "GN", "QUY", "mean"):
        assert float(difference[code]) == pytest.approx(float(ours[code]) - float(theirs[code]), abs=2e-4)
    assert "the paper's table 2b" in text
    assert "over the same 3 of its 10 languages" in text


def test_scores_by_scaling_factor(reported):
    _, folder = reported
    rows = read_table(folder / "scaling_plus_tgt_xlm-roberta-base.csv")
    assert {weight: float(row["AmericasNLI accuracy (%)"]) for weight, row in rows.items()} == pytest.approx(
        {
            "0.1": 100 * (50 + 76 + 52) / 3 / N,
            "0.2": 100 * (70 + 66 + 72) / 3 / N,
            "0.3": 100 * (60 + 56 + 62) / 3 / N,
        },
        abs=1e-4,
    )
    row = read_table(folder / "scaling_plus_src_plus_tgt_xlm-roberta-base.csv")["0.2"]
    assert float(row["paper, table 3"]) == 40.02
    assert float(row["difference"]) == pytest.approx(float(row["AmericasNLI accuracy (%)"]) - 40.02, abs=2e-4)


def test_chosen_factors_beside_table_9(reported):
    _, folder = reported
    rows = read_table(folder / "chosen_xlm-roberta-base.csv")
    assert rows == {
        "MODEL + TGT": {"AmericasNLI": "0.2", "paper, table 9a": "0.9"},
        "MODEL + SRC + TGT": {"AmericasNLI": "0.2", "paper, table 9a": "0.8"},
    }


def test_the_figure_by_density_and_its_numbers(reported):
    _, folder = reported
    rows = read_table(folder / "density_plus_tgt_xlm-roberta-base.csv")
    assert {k: float(row["AmericasNLI top-k"]) for k, row in rows.items()} == pytest.approx(
        {"5": 100 * 58 / N, "50": 100 * 62 / N, "dense": 100 * 208 / 3 / N, "MODEL": 100 * 41 / N}, abs=1e-4
    )
    assert float(rows["5"]["AmericasNLI bottom-k"]) == pytest.approx(100 * 53 / N, abs=1e-4)
    picture = (folder / "density_plus_tgt_xlm-roberta-base.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    words = "".join(ElementTree.parse(folder / "density_plus_tgt_xlm-roberta-base.svg").getroot().itertext())
    for word in (
        "AmericasNLI (validation, λ = 0.2)",
        "average accuracy (%)",
        "top-k",
        "bottom-k",
        "dense",
        "MODEL",
    ):
        assert word in words


def test_all_scores_are_there_for_other_programs(reported):
    _, folder = reported
    with open(folder / "scores.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(grid_cells())
    (row,) = [r for r in rows if r["density"] == "0.5" and r["select"] == "top" and r["language"] == "quy"]
    assert (row["variant"], row["split"], row["metric"], row["runs"]) == ("plus_tgt", "dev", "acc", "1")
    assert float(row["score"]) == pytest.approx(100 * 62 / N, abs=1e-4)


def test_the_same_results_give_the_same_files(reported, tmp_path):
    _, folder = reported
    report(folder.parent, *SHOWN, "--output", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in folder.iterdir())
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_a_factor_for_each_language(tmp_path):
    cells = [*grid_cells(), cell("plus_tgt", "test", "gn", 99, target_weight=0.1)]
    done = report(write_cells(tmp_path, cells), "--select-per", "language", "--resamples", "100")
    rows = read_table(tmp_path / "report" / "scores_americas_nli_xlm-roberta-base_test.csv")
    assert float(rows["MODEL + TGT"]["GN"]) == pytest.approx(100 * 99 / N, abs=1e-4)
    assert float(rows["MODEL + TGT"]["QUY"]) == pytest.approx(100 * 68 / N, abs=1e-4)
    assert "λ: MODEL + TGT aym 0.2, gn 0.1, quy 0.2." in done.stdout
    chosen = read_table(tmp_path / "report" / "chosen_americas_nli_xlm-roberta-base.csv")
    assert chosen["MODEL + TGT"] == {"AYM": "0.2", "GN": "0.1", "QUY": "0.2"}
    by_language = read_table(tmp_path / "report" / "scaling_plus_tgt_xlm-roberta-base_americas_nli.csv")
    assert float(by_language["0.1"]["GN"]) == pytest.approx(100 * 76 / N, abs=1e-4)


def test_a_language_that_was_not_tested_at_its_factor_is_named(tmp_path):
    text = report(
        write_cells(tmp_path, grid_cells()), "--select-per", "language", "--resamples", "100"
    ).stdout
    assert "MODEL + TGT: no test scores at the chosen λ of gn 0.1." in text
    assert "MODEL + TGT has no mean: gn missing." in text


def test_without_test_scores_the_validation_scores_are_shown_and_named(tmp_path):
    cells = [one for one in grid_cells() if one.split == "dev"]
    done = report(write_cells(tmp_path, cells), "--resamples", "100", "--against", "paper")
    assert "### AmericasNLI: accuracy (%), validation" in done.stdout
    assert "none to set beside validation scores" in done.stdout
    rows = read_table(tmp_path / "report" / "scores_americas_nli_xlm-roberta-base_dev.csv")
    assert list(rows) == ["MODEL", "MODEL + TGT", "MODEL + SRC + TGT"]


def test_the_split_that_is_asked_for(tmp_path):
    done = report(write_cells(tmp_path, grid_cells()), "--split", "dev", "--resamples", "100")
    assert "accuracy (%), validation" in done.stdout and "accuracy (%), test" not in done.stdout
    done = report(tmp_path, "--split", "test", "--resamples", "100")
    assert "accuracy (%), test" in done.stdout and "validation:" not in done.stdout
    # The choice is that of the validation data all the same.
    assert "λ: MODEL + TGT 0.2." in done.stdout


def test_seeds_are_averaged(tmp_path):
    cells = []
    for seed, gain in ((1, 10), (2, 30)):
        for language in LANGUAGES:
            cells.append(cell("model", "test", language, 40 + seed, seed))
            cells.append(cell("plus_tgt", "test", language, 40 + seed + gain, seed, target_weight=0.9))
    done = report(write_cells(tmp_path, cells), "--resamples", "2000")
    rows = read_table(tmp_path / "report" / "scores_americas_nli_xlm-roberta-base_test.csv")
    assert float(rows["MODEL + TGT"]["QUY"]) == pytest.approx(100 * 61.5 / N, abs=1e-4)
    assert "over documents and training seeds" in done.stdout
    differences = read_table(tmp_path / "report" / "differences_americas_nli_xlm-roberta-base_test.csv")[
        "QUY"
    ]
    # One draw in two takes a seed twice: the interval reaches to the seeds' own gains and beyond.
    assert float(differences["MODEL + TGT"]) == pytest.approx(100 * 20 / N, abs=1e-4)
    assert float(differences["MODEL + TGT low"]) < 100 * 10 / N
    assert float(differences["MODEL + TGT high"]) > 100 * 30 / N


def test_other_names_and_other_tasks_stand_in_the_tables_too(tmp_path):
    cells = [
        cell("model", "test", "quy", 40),
        cell("my | method", "test", "quy", 45),
        cell("sft", "test", "quy", 50),
    ]
    cells += [
        make_cell(
            f"other {v}",
            variant=v,
            benchmark=None,
            language=None,
            task="indonli",
            split="test",
            metrics={"acc": a},
        )
        for v, a in (("model", 0.5), ("my | method", 0.6))
    ]
    done = report(write_cells(tmp_path, cells), "--against", "paper", "--resamples", "100")
    rows = read_table(tmp_path / "report" / "scores_americas_nli_xlm-roberta-base_test.csv")
    assert list(rows) == ["MODEL", "SFT", "my | method"]
    with open(tmp_path / "report" / "paper_americas_nli_xlm-roberta-base_test.csv", newline="") as file:
        theirs = [float(row["QUY"]) for row in csv.DictReader(file) if row[""] == "paper"]
    assert theirs == [printed_score("americas_nli", "base", name, "quy").value for name in ("model", "sft")]
    other = read_table(tmp_path / "report" / "scores_other_acc_xlm-roberta-base_test.csv")
    assert float(other["my | method"]["indonli"]) == 60
    assert "No interval for my | method on indonli: labels by document give another score." in done.stdout


def test_source_languages_stand_outside_the_mean(tmp_path):
    cells = [
        make_cell(
            f"{code}",
            variant="model",
            benchmark="nusax",
            language=code,
            split="test",
            metrics={"f1_macro": f1},
        )
        for code, f1 in (("jav", 0.6), ("sun", 0.7), ("ind", 0.9))
    ]
    report(write_cells(tmp_path, cells))
    row = read_table(tmp_path / "report" / "scores_nusax_xlm-roberta-base_test.csv")["MODEL"]
    assert list(row) == ["JAV", "SUN", "mean", "(IND)"]
    assert float(row["mean"]) == pytest.approx(65)


def test_what_does_not_compare_is_said(tmp_path):
    short = make_cell(
        "short",
        variant="plus_tgt",
        split="test",
        language="gn",
        task="americas_nli_gn",
        parameters={"target_weight": 0.2},
        metrics={"acc": 2 / 3},
    )
    cells = [
        *(cell("model", "test", code, 40) for code in LANGUAGES),
        cell("plus_tgt", "test", "quy", 50, target_weight=0.2),
        short,
        make_cell("broken", status="failed", reason="out of memory", metrics={}, documents=None),
        cell("plus_src", "test", "quy", 50, source_weight=0.2),
        cell("plus_src", "test", "quy", 50, source_weight=0.3),
    ]
    again = cell("model", "test", "quy", 42).model_copy(update={"key": "other checkpoint"})
    text = report(write_cells(tmp_path, [*cells, again]), "--resamples", "100").stdout
    assert "MODEL + TGT has no mean: aym missing." in text
    assert "No interval for MODEL + TGT on gn: other documents than MODEL's. And no difference" in text
    assert (
        "americas_nli_gn was scored on different data: 3 documents (plus_tgt); 120 documents (model)." in text
    )
    differences = read_table(tmp_path / "report" / "differences_americas_nli_xlm-roberta-base_test.csv")
    assert differences["GN"]["MODEL + TGT"] == "" and differences["QUY"]["MODEL + TGT"] != ""
    assert "Failed and left out: plus_tgt on americas_nli_dev_quy" in text and "out of memory" in text
    assert "MODEL + SRC is left out: no validation scores choose between λ 0.2, 0.3." in text
    assert f"Two scores for model on americas_nli_quy: {100 * 42 / N:.2f} from" in text


def test_a_mean_over_some_of_the_languages_says_which_it_lacks(tmp_path):
    text = report(write_cells(tmp_path, grid_cells()), "--resamples", "100").stdout
    part = "3 languages of 10, without bzd, cni, hch, nah, oto, shp, tar."
    assert f"- The mean is over {part}" in text
    assert f"- AmericasNLI, validation: mean over {part}" in text
    assert f"- AmericasNLI: MODEL + TGT, MODEL + SRC + TGT on {part}" in text
    assert f"- AmericasNLI: mean over {part}" in text.split("### Score by density")[1]
    everywhere = [cell("model", "test", code, 40) for code in load().benchmarks["americas_nli"].languages]
    assert "mean is over" not in report(write_cells(tmp_path / "all", everywhere)).stdout


def test_numbers_of_documents_tell_data_apart_without_labels(tmp_path):
    cells = [
        cell(variant, "test", "quy", 40).model_copy(
            update={"documents": None, "coverage": Coverage(scored=count, total=count)}
        )
        for variant, count in (("model", 376), ("plus_tgt", 585))
    ]
    text = report(write_cells(tmp_path, cells), "--resamples", "100").stdout
    assert "No difference for MODEL + TGT on quy: other documents than MODEL's." in text
    assert "americas_nli_quy was scored on different data: 376 documents (model); 585 documents" in text


LITTLE_ROOM = """
import resource, sys
from taxlt_mergekit.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
main(["report", *sys.argv[1:]], prog_name="taxlt")
"""


def test_a_report_for_which_there_is_no_room_leaves_the_last_one(tmp_path):
    out = tmp_path / "report"
    report(write_cells(tmp_path / "results", grid_cells()), "--output", out, "--resamples", "100")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_cells(tmp_path / "results", [cell("model", "test", "quy", 99)])
    done = console("python", "-c", LITTLE_ROOM, tmp_path / "results", "--output", out, "--resamples", "100")
    assert done.code == 1 and f"Error: {out}: cannot be written: File too large" in done.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_labels_that_give_another_score_get_no_interval(tmp_path):
    wrong = cell("plus_tgt", "test", "quy", 50).model_copy(update={"metrics": {"acc": 0.9}})
    text = report(
        write_cells(tmp_path, [cell("model", "test", "quy", 40), wrong]), "--resamples", "100"
    ).stdout
    assert "No interval for MODEL + TGT on quy: labels by document give another score." in text
    assert re.search(r"\| QUY +\| +\+56\.67 \|", text)


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (lambda folder: None, (), "lm_eval; taxlt sweep RECIPE… --output /"),
        (lambda folder: (folder / "notes.json").write_text("{}"), (), "no results below it"),
        (lambda folder: (folder / "results_1.json").write_text("[]"), (), "not a results file of lm_eval"),
        (lambda folder: (folder / "results_1.json").write_text("{"), (), "not a results file of lm_eval"),
        (
            lambda folder: (folder / CELLS_FILE).write_text(json.dumps({"format": 7}) + "\n"),
            (),
            "line 1: results of format 7, but this version reads format 1",
        ),
        (
            lambda folder: append_cell(folder, make_cell(status="failed", reason="NaN", metrics={})),
            (),
            "no finished results; Failed and left out: plus_tgt on americas_nli_dev_quy",
        ),
        (
            lambda folder: append_cell(folder, make_cell()),
            ("--split", "test"),
            "taxlt sweep RECIPE… --test writes",
        ),
        (
            lambda folder: append_cell(folder, make_cell()),
            ("--label", "x=y"),
            "--label x=y: no results of lm_eval",
        ),
        (
            lambda folder: append_cell(folder, make_cell()),
            ("--baseline", "control"),
            "--baseline control: no such variant in ",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, prepare, arguments, message):
    prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = report(tmp_path, *arguments, code=1)
    assert message in done.stderr
    assert str(tmp_path) in done.stderr or arguments
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent",), "absent: no such folder; taxlt sweep RECIPE… --output absent and lm_eval "),
        (("file.txt",), "file.txt: neither cells.jsonl of a sweep nor results_<date>.json of lm_eval"),
        ((".", "--label", "nothing"), "'nothing' is not PATH=NAME"),
        ((".", "--against", "memory"), "'memory' is not 'paper'"),
        ((), "Missing argument 'DIR...'"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("")
    done = console("taxlt", "report", *arguments)
    assert done.code in (1, 2)
    assert message in done.stderr and "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_one_line(tmp_path):
    write_cells(tmp_path / "results", [cell("model", "test", "quy", 40)])
    (tmp_path / "file").write_text("")
    done = report(tmp_path / "results", "--output", tmp_path / "file", code=1)
    assert f"Error: {tmp_path / 'file'}: cannot be written" in done.stderr
