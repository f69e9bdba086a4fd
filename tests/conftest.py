"""Fixtures that all tests share."""

import os
from pathlib import Path

# Before torch is imported, here and in every command that a test calls: `-n` tests share the cores already,
# and two processes of as many threads as cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.helpers.evaluation import LmEval
from tests.helpers.training import small_cache, small_rows, small_text, small_xlmr  # noqa: F401


@pytest.fixture(scope="session")
def command():
    """`lm_eval`, as `LmEval` runs it: one server for all, because starting it takes ten seconds."""
    server = LmEval()
    yield server
    server.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: TAXLT_DATA, or ../shared/data beside the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TAXLT_DATA") or default)
    if not folder.is_dir():
        pytest.skip("needs real data: set TAXLT_DATA to a folder laid out as docs/evaluate.md says")
    return folder
