"""The structure that docs/architecture.md describes: arrows one way, no circles, nothing crowded or long."""

import ast
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "taxlt_mergekit"
MODULES = sorted(PACKAGE.rglob("*.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """`lint-imports` on the package in a folder, in a Python without the start-up file that imports ours."""
    script = "import sys; sys.path[:0] = sys.argv.pop().split(','); import importlinter.cli as i; "
    script += "i.lint_imports_command()"
    options = ["--config", ROOT / "pyproject.toml", "--no-cache"]
    paths = f"{folder},{sysconfig.get_path('purelib')}"
    command = [sys.executable, "-S", "-c", script, *options, paths]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_layers_are_kept_and_no_import_goes_in_a_circle():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("merge/card.py", "import taxlt_mergekit.train.settings"),
        ("train/card.py", "from taxlt_mergekit.hosts import mergekit"),
        ("paper/variants.py", "from taxlt_mergekit.paper import recipes"),
        ("report/build.py", "from taxlt_mergekit.sweep import command"),
    ],
)
def test_an_arrow_in_the_wrong_direction_is_found(module, line, tmp_path):
    for path in MODULES:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with (tmp_path / "taxlt_mergekit" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1 and "BROKEN" in done.stdout, done.stdout + done.stderr


def test_folders_files_and_functions_are_read_in_one_sitting():
    crowded = {folder: n for folder, n in Counter(path.parent for path in MODULES).items() if n > 14}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    functions = {
        (path, node.name): node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert not crowded
    assert not {path: n for path, n in lines.items() if n > 450}
    assert not {name: n for name, n in functions.items() if n >= 80}


def test_other_modules_private_names_are_left_alone():
    options = ["--isolated", "--select", "SLF001", "--output-format", "concise"]
    command = [Path(sys.executable).with_name("ruff"), "check", *options, PACKAGE]
    found = subprocess.run(command, capture_output=True, text=True).stdout
    assert len(re.findall("SLF001", found)) <= 12, found


def test_every_module_and_folder_says_what_it_is_for():
    silent = [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent


def test_no_test_imports_another():
    tests = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    other = re.compile(r"^\s*from (tests\.(?!helpers|matrix)\S+)", flags=re.M)
    importing = {path.name: found for path in tests if (found := other.findall(path.read_text("utf-8")))}
    assert not importing
