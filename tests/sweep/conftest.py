"""The project that the tests of sweeps share."""

from pathlib import Path

import pytest

from tests.helpers.sweeping import make_project


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """`make_project`'s; each test writes its results to a folder of its own in it."""
    return make_project(tmp_path_factory.mktemp("project"))
