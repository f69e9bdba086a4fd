"""Every name of the hosts that this package uses is listed in docs/plugging-in.md, and is still there."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taxlt_mergekit.hosts.hook import HOSTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugging-in.md").read_text(encoding="utf-8")
OPTIONAL = "mergekit.evo.actors"  # needs packages that mergekit's own extra brings


def listed() -> dict[str, list[str]]:
    """Module -> names, from the page's last table."""
    _, _, section = PAGE.partition("## What we rely on")
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", section, flags=re.M)
    return {module: re.findall(r"`([\w.]+)`", names) for module, names in rows}


def imported() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "taxlt_mergekit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("mergekit", "lm_eval")):
                yield from ((str(node.module), alias.name) for alias in node.names)


def find(owner: Any, name: str) -> bool:
    """Whether a module or class has an attribute; that of an instance counts where its class sets it."""
    for part in name.split("."):
        if not hasattr(owner, part):
            is_class = inspect.isclass(owner)
            return is_class and any(_sets(base, part) for base in owner.__mro__[:-1])
        owner = getattr(owner, part)
    return True


def _sets(kind: type, name: str) -> bool:
    annotated = name in getattr(kind, "__annotations__", {}) or name in getattr(kind, "model_fields", {})
    return annotated or re.search(rf"self\.{name}\b", inspect.getsource(kind)) is not None


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in listed().items() for name in names])
def test_a_name_that_we_rely_on_is_there(module, name):
    if module == OPTIONAL:
        source = Path(importlib.import_module("mergekit").__file__).parent / "evo" / "actors.py"
        assert name in source.read_text(encoding="utf-8")
        return
    host = module.partition(".")[0].replace("_", "-")
    assert find(importlib.import_module(module), name), (
        f"{host} {version(host)} has no {module}.{name}, on which taxlt-mergekit relies: docs/plugging-in.md"
    )


def test_every_import_from_a_host_is_listed():
    known = {(module, name) for module, names in listed().items() for name in names}
    assert set(imported()) - known == set()


def test_every_door_is_on_the_page_and_is_a_function_of_ours():
    doors, _, _ = PAGE.partition("## Versions")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `(\w+)` \|", doors, flags=re.M))
    assert rows == {module: door.partition(":")[2] for module, door in HOSTS.items()}
    for door in HOSTS.values():
        ours, _, function = door.partition(":")
        assert inspect.isfunction(getattr(importlib.import_module(ours), function))


def test_a_name_that_is_gone_is_missed():
    stand_in = ModuleType("host")
    stand_in.Planner = type("Planner", (), {"plan": None})
    assert find(stand_in, "Planner.plan")
    assert not find(stand_in, "Other")


def test_a_merge_in_memory_is_refused_for_our_methods_alone():
    """mergekit-evolve's actors plan by the class that they import."""
    from types import SimpleNamespace

    from taxlt_mergekit.errors import UserError
    from taxlt_mergekit.hosts.mergekit import refuse_merges_in_memory

    actors = SimpleNamespace(MergePlanner=lambda config, *rest: ("planned", *rest))
    refuse_merges_in_memory(actors)
    assert actors.MergePlanner(SimpleNamespace(merge_method="ties"), 1) == ("planned", 1)
    with pytest.raises(UserError, match="xlt_additive: merges go to disk"):
        actors.MergePlanner(SimpleNamespace(merge_method="xlt_additive"), 1)
