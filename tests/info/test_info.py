"""`taxlt info`: true of this environment, and of the data that there are."""

import platform
from importlib.metadata import version

import pytest
import torch

from tests.helpers.hosts import console


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return {" ".join(line[:2]) if len(line) == 4 else line[0]: line for line in cells}


def test_versions_hook_and_devices():
    done = console("taxlt", "info", TAXLT_DATA="")
    assert done.code == 0, done.stderr
    found = rows(done.stdout)
    for library in ("mergekit", "lm-eval", "transformers", "torch", "peft"):
        assert found[library][1] == version(library)
    assert found["Python"][1] == platform.python_version()
    assert found["mergekit"][2] == "<0.1.6,>=0.1.5"
    assert "(!)" not in done.stdout
    assert "hook      on: " in done.stdout
    assert torch.cuda.is_available() or "no GPU that torch" in done.stdout
    assert "TAXLT_DATA is not set" in done.stdout


def test_a_hook_that_is_off_says_what_turned_it_off():
    done = console("taxlt", "info", TAXLT_NO_AUTOLOAD="1", TAXLT_DATA="")
    assert done.code == 0, done.stderr
    assert "hook      off: TAXLT_NO_AUTOLOAD=1; unset it" in done.stdout


def test_files_that_are_there_are_counted_and_the_others_named(tmp_path):
    for name in ("nusax/madurese/test.csv", "nusax/acehnese/test.csv", "xnli/xnli.test.tsv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    done = console("taxlt", "info", TAXLT_DATA=str(tmp_path))
    assert done.code == 0, done.stderr
    found = rows(done.stdout)
    assert found["NusaX-senti test"][2] == "2 of 9"
    assert found["NusaX-senti test"][3].endswith("and 5 more")
    assert found["XNLI test"][2:] == ["14 of 14", ""]
    assert found["AmericasNLI validation"][2] == "0 of 10"
    every = rows(console("taxlt", "info", "--all", TAXLT_DATA=str(tmp_path)).stdout)["NusaX-senti test"][3]
    assert len(every.split(", ")) == 7
    assert "madurese" not in every


@pytest.mark.parametrize("command", [["info"], ["info", "--all"]])
def test_a_folder_that_is_none_is_one_line(command, tmp_path):
    done = console("taxlt", *command, TAXLT_DATA=str(tmp_path / "gone"))
    assert done.code == 1
    assert done.last_line.startswith("Error: TAXLT_DATA=")
