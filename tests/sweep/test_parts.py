"""What is a part of a sweep does not pass for the whole: trials, failures, and what was stopped."""

import csv

from taxlt_mergekit.cells.store import Coverage, read_cells
from tests.helpers.reports import read_table, report
from tests.helpers.sweeping import ROWS, change_weight, copy_project, sweep

BROKEN = """\
task: broken
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {folder}/rows.jsonl}}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_target: label
doc_to_choice: [negative, neutral, positive]
process_results: !function broken.score
metric_list: [{{metric: acc}}]
"""


def recipes_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_trial_never_takes_the_place_of_the_whole(project):
    arguments = ["recipes/mad_plus_tgt.yml", "--weight", "0.5", "--output", "tried"]
    trial = sweep(project, *arguments, "--limit", 10)
    assert trial.code == 0, trial.stderr
    assert "(10 of 60 documents)" in trial.stdout
    assert "1 chosen recipes of this trial in tried/trial" in trial.stdout
    out = project / "tried"
    assert recipes_in(out) == ["cells.jsonl", "trial"]
    assert "a trial, on 10 of 60 documents only" in (out / "trial" / "mad_plus_tgt.yml").read_text()
    whole = sweep(project, *arguments)
    assert whole.code == 0, whole.stderr
    best = (out / "best" / "mad_plus_tgt.yml").read_bytes()
    assert best.startswith(b"# chosen by taxlt sweep on validation data, on average over mad\n")
    assert sweep(project, *arguments, "--limit", 10).code == 0
    assert (out / "best" / "mad_plus_tgt.yml").read_bytes() == best
    # A limit that no task reaches is none.
    assert sweep(project, *arguments, "--limit", 1000).code == 0
    extents = [cell.coverage for cell in read_cells(out)]
    assert extents == 2 * [Coverage(scored=10, total=ROWS)] + 4 * [Coverage(scored=ROWS, total=ROWS)]
    assert recipes_in(out) == ["best", "cells.jsonl", "trial"]

    report(out, "--output", project / "tried-report")
    with (project / "tried-report" / "scores.csv").open() as file:
        scores = [row["score"] for row in csv.DictReader(file)]
    parts = read_table(project / "tried-report" / "parts.csv")
    assert len(scores) == len(parts) == 2
    assert {row["Scored"] for row in parts.values()} == {"10 of 60 documents"}


def test_a_failing_language_is_not_chosen_for_and_is_missed_until_it_is_there(project, tmp_path):
    copy = copy_project(project, tmp_path)
    good = copy / "vectors" / "base" / "lang" / "mad"
    weight = change_weight(good, lambda _: float("nan"))
    arguments = ["recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml", "--weight", "0.5", "--output", "r"]
    outcome = sweep(copy, *arguments)
    assert outcome.code == 1 and "NaN" in outcome.last_line and "lang/mad" in outcome.last_line
    states = {(c.language, c.variant): c.status for c in read_cells(copy / "r")}
    assert states == {
        ("mad", "model"): "ok",
        ("mad", "plus_tgt"): "failed",
        ("sun", "model"): "ok",
        ("sun", "plus_tgt"): "ok",
    }
    assert recipes_in(copy / "r" / "best") == ["sun_plus_tgt.yml"]
    assert "on average over sun\n" in (copy / "r" / "best" / "sun_plus_tgt.yml").read_text()
    assert "mad_plus_tgt.yml                     no point was scored on every task" in outcome.stdout
    text = report(copy / "r").stdout
    assert "Unfinished: a sweep of 4 cells (mad_plus_tgt.yml, sun_plus_tgt.yml)" in text
    assert "Failed and left out: plus_tgt on nusax_senti_dev_mad" in text
    assert "MODEL + TGT has no mean: mad missing." in text

    change_weight(good, lambda _: weight)
    again = sweep(copy, *arguments)
    assert again.code == 0, again.stderr
    assert recipes_in(copy / "r" / "best") == ["mad_plus_tgt.yml", "sun_plus_tgt.yml"]
    text = report(copy / "r").stdout
    assert "Unfinished" not in text and "Failed" not in text


def test_what_one_task_raises_is_of_its_cell_alone(project, tmp_path):
    """A task of the user's own that cannot be scored, beside one that can."""
    copy = copy_project(project, tmp_path)
    (copy / "tasks").mkdir()
    (copy / "tasks" / "rows.jsonl").write_text('{"text": "a", "label": 0}\n')
    (copy / "tasks" / "broken.py").write_text("def score(doc, results):\n    raise KeyError('polarity')\n")
    (copy / "tasks" / "broken.yaml").write_text(BROKEN.format(folder=copy / "tasks"))
    outcome = sweep(
        *(copy, "recipes/mad_plus_tgt.yml", "--weight", "0.5", "--output", "r"),
        *("--tasks", "broken,nusax_senti_dev_mad", "--include-path", "tasks"),
    )
    assert outcome.code == 1 and "KeyError: 'polarity'" in outcome.last_line, outcome.stderr
    states = {(c.task, c.variant): c.status for c in read_cells(copy / "r")}
    assert states == {
        ("broken", "model"): "failed",
        ("nusax_senti_dev_mad", "model"): "ok",
        ("broken", "plus_tgt"): "failed",
        ("nusax_senti_dev_mad", "plus_tgt"): "ok",
    }
