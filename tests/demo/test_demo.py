"""`taxlt demo`: what a newcomer does and sees. The run of one seed is `test_one_seed_of_the_demo`."""

import io
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from rich.console import Console

from taxlt_mergekit.cells.store import CELLS_FILE, read_cells
from taxlt_mergekit.demo import files, run, world
from taxlt_mergekit.demo.model import SPECIAL, write_untrained
from taxlt_mergekit.demo.results import COLUMNS, CONTROL, curves, read_outcome
from taxlt_mergekit.demo.stages import ENVIRONMENT, Stage, stages
from taxlt_mergekit.demo.summary import table
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.variants import MODEL
from tests.helpers.hosts import BIN, console
from tests.helpers.training import assert_same_weights

SEED = 0  # the command's default; the world was designed on others


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the demo: its folder, and what it printed where the environment asks for colours."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    done = subprocess.run(
        [BIN / "taxlt", "demo", "--output", folder],
        env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "40"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_one_seed_of_the_demo(finished):
    folder, printed = finished
    outcome = read_outcome(folder, SEED)

    def over_targets(column: str) -> float:
        return fmean(outcome.scores[code, column].accuracy for code in files.TARGETS)

    assert over_targets("plus_tgt") >= over_targets(MODEL) + 10
    assert abs(over_targets(CONTROL) - over_targets(MODEL)) <= 5
    assert outcome.source > 90
    assert table([outcome]) in printed
    for text in ("MODEL says", "“", "scaling_factor.png", "commands.sh", "to the last digit"):
        assert text in printed
    assert (folder / "scaling_factor.png").stat().st_size > 10_000


def test_every_printed_command_was_run_and_can_be_copied(finished):
    folder, printed = finished
    commands = re.findall(r"^ +\$ (.+)$", printed, flags=re.M)
    assert len(commands) == 12
    assert "\x1b" not in printed
    script = (folder / "commands.sh").read_text(encoding="utf-8").splitlines()
    assert set(commands) <= set(script)
    programs = {shlex.split(command)[0] for command in commands}
    assert programs == {"taxlt", "mergekit-yaml", "lm_eval"}


def test_a_printed_command_gives_the_same_again_when_copied(finished, tmp_path):
    folder, printed = finished
    command = next(c for c in re.findall(r"^ +\$ (.+)$", printed, flags=re.M) if c.startswith("mergekit"))
    program, recipe, output = shlex.split(command)
    assert console(program, recipe, tmp_path / "again", cwd=folder).code == 0
    assert_same_weights(tmp_path / "again", folder / output)


def test_its_folder_holds_ordinary_checkpoints_and_files(finished):
    folder, _ = finished
    names = [files.BASE, files.vector("task", files.TASK), *(f"merged/{code}" for code in files.TARGETS)]
    names += [files.vector("lang", code) for code in (files.SOURCE, *files.TARGETS)]
    architectures = [
        json.loads((folder / name / "config.json").read_text())["architectures"] for name in names
    ]
    masked, classifier = ["ModernBertForMaskedLM"], ["ModernBertForSequenceClassification"]
    assert architectures == [masked, classifier, classifier, classifier, masked, masked, masked]
    assert not (folder / "cache").exists()
    assert not list(folder.rglob("checkpoint-*"))


def test_no_label_of_a_target_language_is_trained_on(finished):
    folder, _ = finished
    script = (folder / "commands.sh").read_text(encoding="utf-8")
    trained_on = set(re.findall(r"data/labelled/\S+", "\n".join(script.split("taxlt train task")[1:])))
    assert trained_on == {files.rows_file(files.SOURCE, "train"), files.rows_file(files.SOURCE, "validation")}
    assert {path.name for path in (folder / "data/labelled").glob("*_train.jsonl")} == {
        f"{files.SOURCE}_train.jsonl"
    }


def test_the_weights_were_chosen_on_validation_data(finished):
    folder, _ = finished
    outcome = read_outcome(folder, SEED)
    for code, by_column in curves([folder]).items():
        for column, points in by_column.items():
            assert len(points) == (1 if column == MODEL else 10)
            if column != MODEL:
                best = max(score for _, score in points)
                assert dict(points)[outcome.scores[code, column].weight] == pytest.approx(best)


def test_a_score_that_is_not_the_sweeps_is_refused(finished, tmp_path):
    folder, _ = finished
    for name in ("results", "control/results", "scores", "data/labelled", "merged"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).symlink_to(folder / name)
    read_outcome(tmp_path, SEED)
    (tmp_path / "results").unlink()
    (tmp_path / "results").mkdir()
    rows = [json.loads(line) for line in (folder / "results" / CELLS_FILE).read_text().splitlines()]
    row = next(r for r in rows if (r["split"], r["variant"], r["task"]) == ("test", "plus_tgt", "demo_qmi"))
    row["metrics"]["acc"] += 1e-12
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "results" / CELLS_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"\+TGT on qmi: taxlt sweep has accuracy"):
        read_outcome(tmp_path, SEED)


def test_the_report_reads_its_results(finished, tmp_path):
    folder, _ = finished
    done = console("taxlt", "report", folder / "results", "--select-per", "language", "--output", tmp_path)
    assert done.code == 0, done.stderr
    assert "QTO" in done.stdout
    assert len(read_cells(folder / "results")) > 80


def test_a_folder_with_a_demo_is_kept_unless_told_otherwise(finished):
    folder, _ = finished
    done = console("taxlt", "demo", "--output", folder)
    assert done.code == 1
    assert done.stderr.strip() == (
        f"Error: --output {folder} already holds a demo; add --overwrite, or choose another folder"
    )
    read_outcome(folder, SEED)


def test_a_folder_with_other_work_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    done = console("taxlt", "demo", "--output", tmp_path, "--overwrite")
    assert (done.code, len(done.stderr.strip().splitlines())) == (1, 1)
    assert "is not a demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_output_that_cannot_be_a_folder_is_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    for output in (file, file / "demo"):
        done = console("taxlt", "demo", "--output", output)
        assert (done.code, len(done.stderr.strip().splitlines())) == (1, 1)
        assert str(output) in done.stderr
    assert file.is_file()


def test_overwriting_leaves_nothing_of_the_earlier_demo(tmp_path):
    run.prepare(tmp_path / "demo", overwrite=False)
    (tmp_path / "demo/merged").mkdir()
    (tmp_path / "demo/old").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="--overwrite"):
        run.prepare(tmp_path / "demo", overwrite=False)
    run.prepare(tmp_path / "demo", overwrite=True)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["commands.sh"]


def test_a_failing_command_is_named_with_its_reason_and_log(tmp_path, monkeypatch):
    stage = Stage("θ₀", ("taxlt", "train", "language", "nowhere", "--corpus", "no.txt", "--output", "x"))
    monkeypatch.setattr(run, "stages", lambda seed: [[stage]])
    with pytest.raises(UserError) as caught:
        run.run(tmp_path, 0, Console(file=io.StringIO()))
    assert caught.value.message.count("\n") == 0
    assert "θ₀: exit code 1: Error: model nowhere" in caught.value.message
    assert "logs/01.log" in caught.value.message


def test_a_terminal_shows_what_is_running_and_leaves_commands_whole(tmp_path, monkeypatch):
    command = ("python", "-c", "import time; time.sleep(1)", *(f"--some-option={i}" for i in range(20)))
    monkeypatch.setattr(run, "stages", lambda seed: [[Stage("a [long] stage", command)]])
    screen = io.StringIO()
    run.run(tmp_path, 0, Console(file=screen, force_terminal=True, width=40, highlight=False, _environ={}))
    shown = screen.getvalue()
    assert f"      $ {shlex.join(command)}\n" in shown
    assert "[1/1] a [long] stage\n" in shown and re.search(r"\[1/1\] done in \d+ s\n", shown)
    # What is running is drawn again and again, with the time.
    assert len(re.findall(r"\d:\d\d:\d\d", shown)) > 1


def test_the_untrained_model_has_every_word_and_equal_weights_for_equal_seeds(tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    words = world.vocabulary(5)
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_untrained(tmp_path / name, words, seed)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "a")
    assert len(tokenizer) == model.config.vocab_size == len(words) + len(SPECIAL)
    assert tokenizer.unk_token_id not in tokenizer(" ".join(words))["input_ids"]


def test_equal_seeds_train_equal_weights(tmp_path):
    files.write_inputs(tmp_path, 0)
    write_untrained(tmp_path / files.UNTRAINED, world.vocabulary(0), 0)
    command = " ".join(stages(0)[0][0].command).replace("--max-steps 2000", "--max-steps 6")
    command = command.replace("--eval-steps 500", "--eval-steps 3").replace("--warmup-steps 100", "")
    for output in ("one", "two"):
        again = shlex.split(command.replace(f"--output {files.BASE}", f"--output {output}"))
        done = console(*again, cwd=tmp_path, HF_HOME=str(tmp_path / f"cache-{output}"), **ENVIRONMENT)
        assert done.code == 0, done.stderr
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_recipes_differ_from_merge_configs_in_names_alone():
    ours = yaml.safe_load(files.recipe("minus_src_plus_tgt", "qmi"))
    theirs = yaml.safe_load(
        (Path(__file__).parents[2] / "merge_configs/quy_minus_src_plus_tgt.yml").read_text("utf-8")
    )
    assert ours.keys() == theirs.keys()
    assert ours["merge_method"] == theirs["merge_method"]
    roles = [[model["parameters"]["role"] for model in recipe["models"]] for recipe in (ours, theirs)]
    assert sorted(roles[0]) == sorted(roles[1])
    assert set(COLUMNS) == {MODEL, *files.VARIANTS, CONTROL}
