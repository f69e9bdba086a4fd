"""Hosts of later versions, which look for plugins by themselves: a module of today's, and what it does more.

`after` acts in the process that calls it, once the module has run and before this package's hook sees it.
"""

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType


def after(name: str, act: Callable[[ModuleType], None]) -> None:
    """Have a host module end with one more step. Call it before the module is imported."""

    class Finder:
        @staticmethod
        def find_spec(asked, path=None, target=None):
            if asked != name:
                return None
            spec = PathFinder.find_spec(asked, path, target)
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                act(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(1, Finder)  # behind this package's, which asks the others


def installed(folder: Path, group: str, **points: str) -> Path:
    """Make a folder for PYTHONPATH that is an installed package with these entry points and nothing else."""
    metadata = folder / "later-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    lines = [f"{name.replace('_', '-')} = {value}" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    return folder
