"""`taxlt sweep --select-by`: the same choice whatever the labels say, and what a user is told."""

import json

import pytest
import yaml

from taxlt_mergekit.cells.choices import read_choices
from taxlt_mergekit.cells.store import read_cells
from taxlt_mergekit.cells.unlabelled import append_unlabelled, read_unlabelled
from tests.helpers.hosts import forked
from tests.helpers.sweeping import copy_project, sweep

GRID = ("--weight", "0.3,0.6,0.9", "--select-per", "language", "--batch-size", 8)
SEARCH = ("--select-by", "balance", "--per-group", "--trials", 3)


def chosen(folder):
    return {(c.recipe, c.criterion): (c.parameters, c.curve) for c in read_choices(folder)}


@pytest.fixture(scope="module")
def swept(project):
    recipes = ("recipes/mad_plus_tgt.yml", "recipes/sun_plus_tgt.yml")
    done = sweep(project, *recipes, *GRID, *SEARCH, "--output", "by-balance")
    assert done.code == 0, done.stderr
    return project, recipes, done


def test_what_is_computed_is_kept_and_shown(swept):
    project, recipes, done = swept
    out = project / "by-balance"
    assert {name for _, name in chosen(out)} == {"labels", "fixed", "others", "balance"}
    assert "chosen by balance" in done.stdout and "→ balance" in done.stdout
    assert "balance by point: λ_t 0.3: " in done.stdout
    best = yaml.safe_load((out / "best" / "mad_plus_tgt.yml").read_text())
    point, _ = chosen(out)[recipes[0], "balance"]
    assert best["models"][1]["parameters"]["weight"] == point.target_weight
    # One forward pass gives both: the cells' predictions are the log-probabilities' best classes.
    cells = {(c.recipe, c.parameters): c for c in read_cells(out) if c.variant != "model"}
    lines = read_unlabelled(out)
    assert len(lines) == len(cells) == 2 * (3 + 3)  # grid and search
    for line in lines:
        documents = cells[line.recipe, line.parameters].documents
        assert [row.index(max(row)) for row in line.log_probabilities] == list(documents.prediction)
    before = (out / "unlabelled.jsonl").read_bytes(), (out / "choices.jsonl").read_bytes()
    assert sweep(project, *recipes, *GRID, *SEARCH, "--output", "by-balance").code == 0
    assert before == ((out / "unlabelled.jsonl").read_bytes(), (out / "choices.jsonl").read_bytes())


def test_hidden_labels_change_no_choice_but_that_of_labels(swept, tmp_path):
    """One language's labels are all made the same; its choices stay, `others` of it and the search's too."""
    project, recipes, _ = swept
    copy = copy_project(project, tmp_path)
    (file,) = (path for path in (copy / "data").rglob("*") if path.is_file() and hidden(path))
    lines = file.read_text().splitlines(keepends=True)
    kinds = ("negative", "neutral", "positive")
    for number, line in enumerate(lines):
        for kind in kinds:
            line = line.replace(f"{kind}", "neutral") if number else line
        lines[number] = line
    assert "".join(lines) != file.read_text()
    file.write_text("".join(lines))
    done = sweep(copy, *recipes, *GRID, *SEARCH, "--output", "hidden")
    assert done.code == 0, done.stderr
    seen, blind = chosen(project / "by-balance"), chosen(copy / "hidden")
    by_group = recipes[0].replace(".yml", ".per_group.yml")
    assert blind[by_group, "balance"] == seen[by_group, "balance"]
    for name in ("mad_plus_tgt.yml", "mad_plus_tgt.per_group.yml"):
        best = [folder / "best" / name for folder in (project / "by-balance", copy / "hidden")]
        assert best[0].read_text() == best[1].read_text()
    for name in ("fixed", "others", "balance"):
        assert blind[recipes[0], name] == seen[recipes[0], name], name
    assert blind[recipes[0], "labels"] != seen[recipes[0], "labels"]


def hidden(path) -> bool:
    return "mad" in str(path) and ("valid" in path.name or "dev" in path.name)


def test_text_alone_reads_no_task(project):
    text = project / "sun.txt"
    text.write_text("".join(f"satu {i} dua tiga\n\n" for i in range(9)))
    arguments = ["recipes/sun_plus_tgt.yml", "--weight", "0.3,0.6", "--text", "{language}.txt"]
    out = ("--select-by", "balance", "--output", "by-text")
    # Without data: no task can be loaded.
    done = forked("taxlt", "sweep", *arguments, *out, cwd=project, TAXLT_DATA=str(project / "nowhere"))
    assert done.code == 0, done.stderr
    assert read_cells(project / "by-text") == []
    lines = read_unlabelled(project / "by-text")
    assert [(line.task, len(line.log_probabilities)) for line in lines] == [("sun.txt", 9)] * 2
    assert {name for _, name in chosen(project / "by-text")} == {"fixed", "balance"}
    report = (project / "by-text" / "choices.jsonl").read_text()
    assert all(json.loads(line)["format"] == 1 for line in report.splitlines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n \n", "holds no text"),
        ("a\tb\nc\n", "line 2: 1 columns, line 1 has 2"),
        (None, "No such file"),
    ],
)
def test_text_that_is_none(project, content, message):
    if content is not None:
        (project / "bad.txt").write_text(content)
    name = "absent.txt" if content is None else "bad.txt"
    done = sweep(
        project, "recipes/sun_plus_tgt.yml", "--text", name, "--select-by", "balance", "--output", "never"
    )
    assert done.code == 1 and message in done.stderr
    assert not (project / "never").exists()


def test_others_needs_others(project):
    arguments = ["recipes/sun_plus_tgt.yml", "--weight", "0.3", "--output", "alone"]
    done = sweep(project, *arguments, "--select-by", "others")
    assert done.code == 1
    assert "--select-by others has nothing to go by: sweep recipes of other languages" in done.stderr


def test_lines_come_back(project, tmp_path):
    (line, *_) = read_unlabelled(project / "by-text")
    append_unlabelled(tmp_path, line)
    assert read_unlabelled(tmp_path) == [line]
