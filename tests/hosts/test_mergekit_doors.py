"""A mergekit that reads entry points (contrib/mergekit-entry-points.md): each method is there once."""

from pathlib import Path

import pytest

from tests.helpers.doors import installed
from tests.helpers.hosts import console

ROOT = Path(__file__).parents[2]
METHODS = {
    "xlt_additive": "taxlt_mergekit.merge.methods.vectors:additive",
    "xlt_analogy": "taxlt_mergekit.merge.methods.vectors:analogy",
}
SCRIPT = """
from importlib.metadata import entry_points
from tests.helpers.doors import after
def read_entry_points(registry):
    for point in {p.value: p for p in entry_points(group="mergekit.merge_methods")}.values():
        method = point.load()
        if method not in registry.registered_methods():
            registry.register(method)
after("mergekit.merge_methods.registry", read_entry_points)
from mergekit import merge_methods
names = [method.spec.name for method in merge_methods.registry.registered_methods()]
print(len(names) == len(set(names)), *(name for name in names if name.startswith("xlt_a")))
"""


@pytest.mark.parametrize("off", ["0", "1"])
def test_a_method_is_there_once_whoever_came_first(tmp_path, off):
    points = {value.rpartition(":")[2]: value for value in METHODS.values()}
    path = installed(tmp_path, "mergekit.merge_methods", **points)
    done = console("python", "-c", SCRIPT, cwd=ROOT, PYTHONPATH=str(path), TAXLT_NO_AUTOLOAD=off)
    assert done.stdout.split() == ["True", *METHODS], done.stderr
    assert done.stderr == ""
