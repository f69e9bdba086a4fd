"""contrib/: the patches are what is exported, and the issues' reproductions do what they say."""

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from taxlt_mergekit.export.lm_eval import task_files
from taxlt_mergekit.export.mergekit import repository_files
from tests.helpers.hosts import BIN, console

CONTRIB = Path(__file__).parents[2] / "contrib"


def test_the_patches_add_what_is_exported(tmp_path):
    patches = runpy.run_path(str(CONTRIB / "write_patches.py"))["patches"]()
    for name, text in patches.items():
        assert (CONTRIB / name).read_text(encoding="utf-8") == text, "run contrib/write_patches.py"
        subprocess.run(["git", "apply", CONTRIB / name], cwd=tmp_path, check=True)
    exported = {f"lm_eval/tasks/{path}": text for path, text in task_files().items() if "/" in path}
    exported |= repository_files()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8") for path in files} == exported
    assert set(patches) == {path.name for path in CONTRIB.glob("*.patch")}


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("lm-eval-start-up.md", "16 files, 31 parsed"),
        ("mergekit-head-lost.md", "['XLMRobertaForMaskedLM']"),
        ("mergekit-multi-gpu-results.md", "lost: True"),
        ("mergekit-entry-points.md", "RuntimeError: Unimplemented merge method mine"),
    ],
)
def test_a_reproduction_shows_what_its_page_says(page, said, tmp_path):
    text = (CONTRIB / page).read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len([line for line in script.splitlines() if line]) <= 10
    assert said in text
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = console("python", "-c", script, cwd=tmp_path, TAXLT_NO_AUTOLOAD="1", PATH=path)
    assert done.code == 0 and said in done.stdout + done.stderr, done.stderr


def test_the_pages_name_the_patches_and_the_commits():
    index = (CONTRIB / "README.md").read_text(encoding="utf-8")
    for path in CONTRIB.iterdir():
        if path.suffix in (".md", ".patch", ".py") and path.name != "README.md":
            assert path.name in index
    assert len(re.findall(r"`[0-9a-f]{40}`", index)) == 2
    lines = task_files()["README_lines.md"].splitlines()
    page = (CONTRIB / "lm-eval-tasks.md").read_text(encoding="utf-8")
    assert all(f"\n{line}\n" in page for line in lines)
