"""What `taxlt sweep` shows: plain lines on a pipe, a bar and a table on a terminal."""

import io
import sys
from pathlib import Path

import pytest

from taxlt_mergekit.cells.store import Cell, Parameters
from taxlt_mergekit.sweep.console import progress, summarise
from taxlt_mergekit.sweep.recipe import read_recipe
from tests.helpers.sweeping import write_recipe

POINT = Parameters(target_weight=0.5, density=0.3, select="bottom", scope="global")


def cell(code: str, score: float, split="dev", **more) -> Cell:
    return Cell(
        **{
            "key": f"{code} {more} {score} {split}",
            "recipe": f"recipes/{code}_plus_tgt.yml",
            "benchmark": "nusax",
            "language": code,
            "variant": "plus_tgt",
            "model": "base",
            "parameters": POINT,
            "split": split,
            "task": f"nusax_senti_{'dev_' if split == 'dev' else ''}{code}",
            "metrics": {"f1_macro": score},
        }
        | more
    )


MODEL = {"variant": "model", "parameters": Parameters()}
FAILED = {"status": "failed", "reason": "a [red]NaN[/red] " + 20 * "of a tensor ", "metrics": {}}
CELLS = [cell("mad", 0.4), cell("sun", 0.6), cell("mad", 0.3, **MODEL), cell("sun", 0.35, **MODEL)]
TESTED = [cell("mad", 0.2, "test"), cell("sun", 0.5, "test")]
LINES = f"""\
nusax_senti_dev_mad          +TGT      λ_t 0.5 density 0.3 bottom global f1_macro 40.00
nusax_senti_dev_sun          +TGT      λ_t 0.5 density 0.3 bottom global {FAILED["reason"]}

chosen on validation data            point                            valid.  MODEL   test  MODEL
nusax +TGT                           λ_t 0.5 density 0.3 bottom global  50.00  32.50  35.00      –
bug_plus_tgt.yml                     no point was scored on every task
"""


@pytest.fixture
def show(tmp_path, monkeypatch):
    """Shows two new cells, one that was there before, and a choice for two of three recipes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for code in ("mad", "sun", "bug"):
        write_recipe(tmp_path, f"{code}_plus_tgt", {code: "target"})

    def run() -> None:
        recipes = [read_recipe(Path(f"recipes/{code}_plus_tgt.yml")) for code in ("mad", "sun", "bug")]
        with progress("Validation", 3) as show_cell:
            show_cell(cell("mad", 0.4), True)
            show_cell(cell("mad", 0.3, **MODEL), False)
            show_cell(cell("sun", 0.6, **FAILED), True)
        summarise(recipes, dict.fromkeys((r.path for r in recipes[:2]), POINT), CELLS, TESTED)

    return run


def test_a_pipe_gets_plain_lines_whatever_the_environment_says(show, capsys, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "40", "TTY_COMPATIBLE": "1"}.items():
        monkeypatch.setenv(name, value)
    show()
    assert capsys.readouterr().out == LINES


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_table(show, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout", Terminal())
    show()
    text = sys.stdout.getvalue()
    assert "Validation" in text and "━" in text and "3/3" in text
    assert LINES.splitlines()[0] in text and FAILED["reason"] in text
    assert "\x1b[1m" in text and "──" in text  # the table's header
    assert [
        word for word in ("50.00", "32.50", "35.00", "–", "no point was scored") if word not in text
    ] == []
