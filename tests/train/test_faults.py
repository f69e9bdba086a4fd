"""Every operation of a training run on its files fails once, or is its last: what was saved is never lost."""

import errno
import gc
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest

from taxlt_mergekit.train import prepare
from taxlt_mergekit.train.folder import checkpoints, fault_of
from tests.helpers.faults import Ended, Fault
from tests.helpers.faulty_training import carry_out, short_plan
from tests.helpers.training import assert_same_weights

# No room, a broken disk, and the end by SIGKILL.
KINDS = (errno.ENOSPC, errno.EIO, None)


@pytest.fixture(scope="module")
def plan(small_text, small_cache, tmp_path_factory) -> prepare.Plan:
    """Two checkpoints, of which one is kept, of a very small model."""
    gc.freeze()  # forks are quicker when they do not look through all that was imported
    yield short_plan(tmp_path_factory.mktemp("faults"), small_text)
    gc.unfreeze()


@pytest.fixture(scope="module")
def whole(plan) -> Path:
    """The folder of the run that nothing went wrong with."""
    assert carry_out(plan, resume=False).code == 0
    return plan.output.rename(plan.output.with_name("whole"))


@pytest.fixture(scope="module")
def stopped(plan, whole) -> Path:
    """A run that was killed between its two steps, moved since, and whose newer checkpoint is damaged."""
    out = plan.output
    for at in itertools.count(40):
        shutil.rmtree(out, ignore_errors=True)
        carry_out(plan, resume=False, fault=Fault(at, None))
        if (out / "checkpoint-2").is_dir():
            break
    state = out / "checkpoint-1" / "trainer_state.json"
    content = json.loads(state.read_text(encoding="utf-8"))
    state.write_text(json.dumps(content | {"best_model_checkpoint": "/elsewhere/checkpoint-1"}))
    shutil.copytree(out / "checkpoint-1", out / "checkpoint-2", dirs_exist_ok=True)
    optimizer = out / "checkpoint-2" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-100])
    return out.rename(out.with_name("stopped"))


def check(plan: prepare.Plan, whole: Path, ended: Ended, fault: Fault) -> None:
    """What a run left is whole, and `--resume` goes on from the newest that was saved to the same weights."""
    out = plan.output
    assert "Traceback" not in ended.stderr, (fault, ended)
    assert ended.code in ((0, 1) if fault.error is not None else (0, -9))
    finished = (out / "config.json").exists()
    if ended.code == 1:
        assert ended.last_line.startswith("Error: ") and str(out) in ended.last_line, (fault, ended)
        assert not finished
    if finished:
        assert_same_weights(whole, out)
    saved = [path for path in checkpoints(out) if fault_of(path) is None]
    if named := re.search(r"go on from (\S+) with --resume", ended.last_line):
        assert named[1] == saved[-1].name
    again = carry_out(plan, resume=True)
    assert again.code == 0, (fault, ended, again)
    assert ("nothing to do" in again.stderr) == finished
    if saved and not finished and not (out / "trainer_state.json").exists():
        assert f"going on from {saved[-1].name}" in again.stderr
    assert_same_weights(whole, out)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=["no room", "broken disk", "killed"])
def test_at_every_operation(kind, plan, whole, stopped):
    """Each operation, from setting aside to the last removal, meets one of the three faults."""
    at, ended = 1 + kind, None
    while ended is None or ended.met:
        shutil.rmtree(plan.output, ignore_errors=True)
        shutil.copytree(stopped, plan.output)
        fault = Fault(at, KINDS[kind])
        ended = carry_out(plan, resume=True, fault=fault)
        finished = (plan.output / "config.json").exists()
        assert finished or any(fault_of(path) is None for path in checkpoints(plan.output)), (fault, ended)
        check(plan, whole, ended, fault)
        at += len(KINDS) * (5 if finished else 1)  # what is left then is to remove what nobody needs
    assert at > 60, "a run has more operations than that"


@pytest.mark.parametrize("at", [1, 2, 3, 4, 7, 11, 18, 27, 30, 34])
def test_before_anything_was_saved(at, plan, whole):
    shutil.rmtree(plan.output, ignore_errors=True)
    fault = Fault(at, KINDS[at % len(KINDS)])
    check(plan, whole, carry_out(plan, resume=False, fault=fault), fault)
