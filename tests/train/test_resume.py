"""A run that was stopped and goes on ends with the weights of one that was not."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helpers.hosts import BIN
from tests.helpers.training import SHORT, assert_same_weights, refused, signal_at, train

STEPS = ("--max-steps", "30", "--eval-steps", "10")


@pytest.fixture(scope="module")
def language_run(small_xlmr, small_text, tmp_path_factory) -> tuple[tuple, Path]:
    """The arguments of a short run with dropout, and the folder of the run that nothing stopped."""
    arguments = (small_xlmr, "--corpus", small_text, "--lang", "xx", *SHORT, *STEPS)
    whole = tmp_path_factory.mktemp("whole") / "out"
    assert train(*arguments, "--output", whole).code == 0
    return arguments, whole


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGINT), (10, signal.SIGTERM), (17, signal.SIGINT), (29, signal.SIGINT)]
)
def test_stopped_language_run_goes_on_to_the_same_weights(language_run, step, number, tmp_path, monkeypatch):
    arguments, whole = language_run
    with monkeypatch.context() as patch:
        signal_at(patch, step, number)
        stopped = train(*arguments, "--output", tmp_path / "out")
    assert stopped.code == 128 + number
    assert f"stopped at step {step}" in stopped.stdout
    assert not (tmp_path / "out" / "config.json").exists()
    went_on = train(*arguments, "--output", tmp_path / "out", "--resume")
    assert went_on.code == 0, went_on
    assert f"going on from checkpoint-{step}" in went_on.stdout
    assert_same_weights(whole, tmp_path / "out")
    curves = [
        [
            entry["eval_loss"]
            for entry in json.loads((folder / "trainer_state.json").read_text())["log_history"]
            if "eval_loss" in entry
        ]
        for folder in (whole, tmp_path / "out")
    ]
    assert curves[0] == curves[1]
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_dropout_and_accumulation_and_workers_do_not_change_that(
    small_xlmr, small_text, tmp_path, monkeypatch
):
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, *STEPS, "--gradient-accumulation-steps", "2")
    arguments += ("--dataloader-num-workers", "1", "--freeze-embeddings")
    assert train(*arguments, "--output", tmp_path / "whole").code == 0
    with monkeypatch.context() as patch:
        signal_at(patch, 13)
        assert train(*arguments, "--output", tmp_path / "out").code == 130
    assert train(*arguments, "--output", tmp_path / "out", "--resume").code == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "out")


def test_stopped_task_run_goes_on_in_a_later_epoch_with_its_early_stopping(
    small_xlmr, small_rows, tmp_path, monkeypatch
):
    arguments = (small_xlmr, *small_rows, "--num-train-epochs", "4", "--batch-size", "8", "--eval-steps", "6")
    arguments += (
        "--early-stopping-patience",
        "3",
        "--learning-rate",
        "1e-3",
        "--metric-for-best-model",
        "f1",
    )
    whole = train(*arguments, "--output", tmp_path / "whole", kind="task")
    assert whole.code == 0, whole
    for step in (8, 17):  # 8 steps an epoch: an end of an epoch, and the middle of one
        folder = tmp_path / f"out{step}"
        with monkeypatch.context() as patch:
            signal_at(patch, step)
            assert train(*arguments, "--output", folder, kind="task").code == 130
        assert train(*arguments, "--output", folder, "--resume", kind="task").code == 0
        assert_same_weights(tmp_path / "whole", folder)
        states = [
            json.loads((path / "trainer_state.json").read_text()) for path in (tmp_path / "whole", folder)
        ]
        assert states[0]["global_step"] == states[1]["global_step"]


def test_ctrl_c_in_a_terminal(small_xlmr, small_text, tmp_path):
    """The console script, stopped by a real signal in the middle and called again."""
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", "200", "--eval-steps", "100")
    assert train(*arguments, "--output", tmp_path / "whole").code == 0
    command = [str(BIN / "taxlt"), "train", "language", *map(str, arguments), "--output", "out"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": environment, "text": True, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        for line in process.stdout:
            if "step 15 of 200" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        process.stderr.read()
    assert process.returncode == 130
    assert "go on with --resume" in rest
    done = subprocess.run([*command, "--resume"], stdout=subprocess.PIPE, check=True, **options)
    assert "going on from checkpoint-" in done.stdout
    assert_same_weights(tmp_path / "whole", tmp_path / "out")


def test_a_half_written_checkpoint_is_not_gone_on_from(language_run, tmp_path, monkeypatch):
    arguments, whole = language_run
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        signal_at(patch, 14)
        train(*arguments, "--output", folder)
    broken = folder / "checkpoint-15"
    shutil.copytree(folder / "checkpoint-14", broken)
    state = (broken / "trainer_state.json").read_bytes()
    (broken / "trainer_state.json").write_bytes(state[: len(state) // 2])
    went_on = train(*arguments, "--output", folder, "--resume")
    assert "going on from checkpoint-14" in went_on.stdout
    assert_same_weights(whole, folder)


def test_a_run_folder_that_was_moved_keeps_its_best_checkpoint(small_xlmr, small_text, tmp_path, monkeypatch):
    # A rising learning rate makes the first evaluation the best one, which the resumed run must not forget.
    arguments = (
        small_xlmr,
        "--corpus",
        small_text,
        *SHORT[:4],
        "--learning-rate",
        "5",
        "--lr-scheduler-type",
        "constant",
        *STEPS,
    )
    whole = train(*arguments, "--output", tmp_path / "whole")
    assert "kept step 30" not in whole.stdout, "the best step must not be the last for this test"
    with monkeypatch.context() as patch:
        signal_at(patch, 25)
        train(*arguments, "--output", tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    assert train(*arguments, "--output", tmp_path / "after", "--resume").code == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "after")


def test_other_settings_or_other_text_are_another_run(language_run, small_text, tmp_path, monkeypatch):
    arguments, whole = language_run
    assert "already holds a finished run" in refused(*arguments, "--output", whole)
    assert "learning_rate 0.001 → 0.002" in refused(
        *arguments, "--output", whole, "--resume", "--learning-rate", "2e-3"
    )
    other = tmp_path / "other.txt"
    other.write_text(small_text.read_text(encoding="utf-8") + "one more line\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        signal_at(patch, 12)
        train(*arguments, "--output", tmp_path / "out")
    assert "unfinished run; add --resume" in refused(*arguments, "--output", tmp_path / "out")
    swapped = [other if argument == small_text else argument for argument in arguments]
    assert "holds another run" in refused(*swapped, "--output", tmp_path / "out", "--resume")
    assert "nothing to do" in train(*arguments, "--output", whole, "--resume").stdout
    # What leaves the weights alone may change.
    assert train(*arguments, "--output", tmp_path / "out", "--resume", "--logging-steps", "7").code == 0
    assert_same_weights(whole, tmp_path / "out")


def test_a_folder_of_other_things_is_left_alone(language_run, tmp_path):
    arguments, _ = language_run
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not empty" in refused(*arguments, "--output", tmp_path)
    assert "is a file" in refused(*arguments, "--output", tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_saved_settings_are_a_config(language_run, tmp_path):
    _, whole = language_run
    again = train("--config", whole / "training_settings.yaml", "--output", tmp_path / "again")
    assert again.code == 0, again
    assert_same_weights(whole, tmp_path / "again")
    saved = yaml.safe_load((whole / "training_settings.yaml").read_text(encoding="utf-8"))
    assert saved["max_steps"] == 30
    assert saved["batch_size"] == 8
    message = refused("--config", whole / "training_settings.yaml", kind="task")
    assert "is for `taxlt train language`" in message


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_full_disk(language_run, tmp_path):
    """A real small file system: the second checkpoint does not fit."""
    arguments, whole = language_run
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        message = refused(*arguments, "--output", disk / "out")
        assert "disk" in message and "full" in message
        assert "--resume" in message
        kept = sorted(path.name for path in (disk / "out").iterdir())
        assert kept == ["checkpoint-10", "training_settings.yaml"]
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        assert train(*arguments, "--output", disk / "out", "--resume").code == 0
        assert_same_weights(whole, disk / "out")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("at", ["checkpoint", "end"])
def test_a_full_disk_without_a_disk(at, language_run, tmp_path, monkeypatch):
    """The same through the error that the operating system gives, wherever it strikes."""
    from taxlt_mergekit.train.trainer import VectorTrainer

    arguments, whole = language_run
    save = VectorTrainer.save_model

    def fails(self, output_dir=None, _internal_call=False):
        if (self.state.global_step == 20) if at == "checkpoint" else (not _internal_call):
            Path(output_dir).mkdir()
            Path(output_dir, "model.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(self, output_dir, _internal_call)

    with monkeypatch.context() as patch:
        patch.setattr(VectorTrainer, "save_model", fails)
        message = refused(*arguments, "--output", tmp_path / "out")
    kept = "checkpoint-10" if at == "checkpoint" else "checkpoint-30"
    assert f"make room and go on from {kept}" in message
    assert not (tmp_path / "out" / "config.json").exists()
    (tmp_path / "out").rename(tmp_path / "moved")
    assert train(*arguments, "--output", tmp_path / "moved", "--resume").code == 0
    assert_same_weights(whole, tmp_path / "moved")
