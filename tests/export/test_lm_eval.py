"""`taxlt export lm-eval`: task folders as lm-eval's repository has them, without anything of this package."""

import runpy
from pathlib import Path

import pytest
import yaml

from taxlt_mergekit.paper import catalog
from tests.helpers.hosts import forked

EXPORTED = ("americas_nli", "nusax_senti", "xnli_xlt")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    done = forked("taxlt", "export", "lm-eval", folder)
    assert (done.code, done.stdout) == (0, f"53 files written to {folder}\n"), done.stderr
    return folder


def test_it_is_laid_out_as_lm_evals_own_folders(tasks):
    assert {path.name for path in tasks.iterdir()} == {*EXPORTED, "README_lines.md"}
    for benchmark in catalog.load().benchmarks.values():
        if benchmark.group not in EXPORTED:
            continue
        folder, group = tasks / benchmark.group, benchmark.group
        names = {f"{group}_{code}.yaml" for code in benchmark.tasks} | {f"_{group}.yaml"}
        names |= {f"_{group}_all.yaml"} if benchmark.outside_mean else set()
        assert {path.name for path in folder.glob("*.yaml")} == names
        assert {path.name for path in folder.iterdir()} - names <= {
            *("README.md", "_default_template_yaml", "_generate_configs.py", "utils.py")
        }
        for name in names:
            config = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
            assert config.get("include", "_default_template_yaml") == "_default_template_yaml"
        readme = (folder / "README.md").read_text(encoding="utf-8")
        assert all(f"`{group}_{code}`" in readme for code in benchmark.tasks)
        assert f"[{group}]({group}/README.md)" in (tasks / "README_lines.md").read_text(encoding="utf-8")
        headings = [line for line in readme.splitlines() if line.startswith("#")]
        for heading in ("## Paper", "### Citation", "#### Tasks", "### Checklist", "### Changelog"):
            assert heading in headings


def test_nothing_in_it_needs_this_package(tasks):
    for path in tasks.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "taxlt" not in text and "_dev" not in text and "class:" not in text, path
            assert "hf-seq-cls" not in text and text.endswith("\n"), path


def test_data_are_parquet_at_a_fixed_commit(tasks):
    for group in EXPORTED:
        template = (tasks / group / "_default_template_yaml").read_text(encoding="utf-8")
        language = next(iter(tasks.glob(f"{group}/{group}_*.yaml"))).read_text(encoding="utf-8")
        commits = {
            word
            for line in (template + language).splitlines()
            for word in line.replace("/", " ").replace("@", " ").split()
            if len(word) == 40 or "senti@" in word
        }
        assert any(len(commit) == 40 and int(commit, 16) for commit in commits), group


def test_its_script_writes_the_same_files_again(tasks):
    for group in EXPORTED:
        before = {path: path.read_bytes() for path in (tasks / group).glob("*.yaml")}
        for path in before:
            path.unlink()
        runpy.run_path(str(tasks / group / "_generate_configs.py"), run_name="__main__")
        assert {path: path.read_bytes() for path in (tasks / group).glob("*.yaml")} == before


def test_files_that_are_in_the_way_stay_as_they_are(tasks, tmp_path):
    again = forked("taxlt", "export", "lm-eval", tasks)
    assert again.code == 0, again.stderr
    (tmp_path / "nusax_senti").mkdir()
    mine = tmp_path / "nusax_senti" / "README.md"
    mine.write_text("mine\n")
    refused = forked("taxlt", "export", "lm-eval", tmp_path)
    assert refused.code == 1
    assert refused.last_line == (
        f"Error: {mine}: is there with other content; give --overwrite to replace it"
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert forked("taxlt", "export", "lm-eval", tmp_path, "--overwrite").code == 0
    assert mine.read_text(encoding="utf-8").startswith("# NusaX")
    blocked = forked("taxlt", "export", "lm-eval", mine / "sub")
    assert blocked.code == 1 and blocked.last_line.startswith(f"Error: {mine / 'sub'}: Not a directory")
