"""A run that was stopped and goes on ends with the weights of one that was not."""

import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from taxlt_mergekit.train import run
from taxlt_mergekit.train.folder import checkpoints
from tests.helpers.hosts import BIN
from tests.helpers.training import SHORT, assert_same_weights, at_step, history, refused, signal_at, train

STEPS = ("--max-steps", "30", "--eval-steps", "10")
RISING = ("--learning-rate", "5", "--lr-scheduler-type", "constant")


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


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def two_checkpoints(language_run, tmp_path_factory) -> Path:
    """A run that was stopped with its checkpoints of steps 10 and 14."""
    arguments, _ = language_run
    folder = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, 14)
        train(*arguments, "--output", folder)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-10", "checkpoint-14"]
    return folder


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("trainer_state.json", Path.unlink, "was not saved to its end (no trainer_state.json)"),
        ("trainer_state.json", shortened, "was not saved to its end (trainer_state.json: "),
        ("model.safetensors", shortened, "is damaged (model.safetensors: "),
        ("model.safetensors", Path.unlink, "is damaged (no weights)"),
        ("optimizer.pt", shortened, "is damaged (optimizer.pt: "),
        ("optimizer.pt", one_bit_flipped, "is damaged (optimizer.pt: "),
        ("optimizer.pt", Path.unlink, "is damaged (no optimizer.pt)"),
        ("scheduler.pt", Path.unlink, "is damaged (no scheduler.pt)"),
        ("scheduler.pt", shortened, "is damaged (scheduler.pt: "),
        ("rng_state.pth", Path.unlink, "is damaged (no rng_state.pth)"),
        ("rng_state.pth", lambda path: path.write_bytes(b""), "is damaged (rng_state.pth: "),
    ],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    name, damage, said, two_checkpoints, language_run, tmp_path
):
    arguments, whole = language_run
    folder = tmp_path / "out"
    shutil.copytree(two_checkpoints, folder)
    damage(folder / "checkpoint-14" / name)
    went_on = train(*arguments, "--output", folder, "--resume")
    assert went_on.code == 0, went_on
    assert f"checkpoint-14 {said}" in went_on.stdout
    assert "going on from checkpoint-10" in went_on.stdout
    assert_same_weights(whole, folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}


def test_without_a_whole_checkpoint_it_starts_again(two_checkpoints, language_run, tmp_path):
    arguments, whole = language_run
    folder = tmp_path / "out"
    shutil.copytree(two_checkpoints, folder)
    for path in checkpoints(folder):
        shortened(path / "optimizer.pt")
    went_on = train(*arguments, "--output", folder, "--resume")
    assert "no whole checkpoint is left; training starts again" in went_on.stdout
    assert_same_weights(whole, folder)


def test_a_best_checkpoint_that_is_damaged_is_not_what_is_kept(small_xlmr, small_text, tmp_path, monkeypatch):
    """Step 10 is the best by far, and lost; of what is left the best is kept, and said to be."""
    # A rising learning rate makes the first evaluation the best one.
    arguments = (small_xlmr, "--corpus", small_text, *SHORT[:4], *RISING, *STEPS)
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        signal_at(patch, 25)
        train(*arguments, "--output", folder)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-10", "checkpoint-25"]
    shutil.copytree(folder, tmp_path / "whole")
    shortened(folder / "checkpoint-10" / "model.safetensors")
    done = train(*arguments, "--output", folder, "--resume")
    assert done.code == 0, done
    assert "checkpoint-10, the best so far, is missing or damaged; none is left to keep" in done.stdout
    assert "kept step 30 of 30" in done.stdout
    # Nothing but what is kept is another.
    assert "kept step 10 of 30" in train(*arguments, "--output", tmp_path / "whole", "--resume").stdout


def test_the_best_that_is_left_is_kept_of_a_run_that_was_stopped_after_its_last_step(
    language_run, tmp_path, monkeypatch
):
    arguments, whole = language_run
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(run, "finish", lambda trainer, plan: None)
        train(*arguments, "--output", folder)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-20", "checkpoint-30"]
    losses = [entry["eval_loss"] for entry in history(folder)]
    shutil.rmtree(folder / "checkpoint-30")
    done = train(*arguments, "--output", folder, "--resume")
    assert (
        "checkpoint-30, the best so far, is missing or damaged; the best that is left is checkpoint-20"
        in (done.stdout)
    )
    assert f"kept step 20 of 30: validation perplexity {math.exp(losses[1]):.4g}" in done.stdout
    assert not load_file(folder / "model.safetensors")["lm_head.bias"].equal(
        load_file(whole / "model.safetensors")["lm_head.bias"]
    )


def test_a_run_folder_that_was_moved_keeps_its_best_checkpoint(small_xlmr, small_text, tmp_path, monkeypatch):
    # A rising learning rate makes the first evaluation the best one, which the resumed run must not forget.
    arguments = (small_xlmr, "--corpus", small_text, *SHORT[:4], *RISING, *STEPS)
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
    # A run of a version that did not know a setting had its default.
    settings = tmp_path / "out/training_settings.yaml"
    settings.write_text(settings.read_text("utf-8").replace("cut_vocabulary: false\n", ""), encoding="utf-8")
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
def test_a_full_disk(language_run, tmp_path, monkeypatch):
    """A real small file system: it has room for all checkpoints as long as nobody else writes to it."""
    arguments, whole = language_run
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        message = refused(*arguments, "--output", disk / "out")
        assert "the disk has room for 717 kB, and 3 checkpoints of 340 kB need 1.02 MB; make room" in message
        assert not list(disk.iterdir())
        subprocess.run(["mount", "-o", "remount,size=1200k", disk], check=True)
        with monkeypatch.context() as patch:
            at_step(patch, 15, lambda: (disk / "other").write_bytes(bytes(500_000)))
            message = refused(*arguments, "--output", disk / "out")
        assert message.endswith("is full; make room and go on from checkpoint-10 with --resume")
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
