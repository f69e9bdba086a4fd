"""A sparse run whose process is killed, or whose disk fails, at its operations on files: nothing is lost."""

import errno
import gc
import shutil
from pathlib import Path

import pytest

from taxlt_mergekit.train import prepare
from tests.helpers.faults import Fault
from tests.helpers.faulty_training import carry_out, short_plan
from tests.helpers.training import assert_same_weights


@pytest.fixture(scope="module")
def plan(small_text, small_cache, tmp_path_factory) -> prepare.Plan:
    """Two steps in each phase, of a very small model."""
    gc.freeze()
    yield short_plan(tmp_path_factory.mktemp("faults"), small_text, sparse=30, weight_decay=0.1)
    gc.unfreeze()


@pytest.fixture(scope="module")
def whole(plan) -> Path:
    assert carry_out(plan, resume=False).code == 0
    return plan.output.rename(plan.output.with_name("whole"))


@pytest.mark.parametrize(("first", "error"), [(1, None), (9, None), (17, errno.ENOSPC)], ids=str)
def test_at_operations_of_both_phases(first, error, plan, whole):
    """Every 24th operation, from three beginnings."""
    at, met = first, True
    while met:
        shutil.rmtree(plan.output, ignore_errors=True)
        fault = Fault(at, error)
        ended = carry_out(plan, resume=False, fault=fault)
        met = ended.met
        assert "Traceback" not in ended.stderr, (fault, ended)
        assert ended.code in ((0, -9) if error is None else (0, 1)), (fault, ended)
        if ended.code == 1:
            assert ended.last_line.startswith("Error: ") and str(plan.output) in ended.last_line
            assert not (plan.output / "config.json").exists()
        again = carry_out(plan, resume=True)
        assert again.code == 0, (fault, ended, again)
        assert_same_weights(whole, plan.output)
        assert {path.name for path in plan.output.iterdir()} == {path.name for path in whole.iterdir()}
        at += 24
    assert at > 60, "a run has more operations than that"
