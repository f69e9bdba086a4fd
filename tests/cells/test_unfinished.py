"""The file that says that a sweep is not through."""

import pytest

from taxlt_mergekit.cells.unfinished import mark, stopped_sweeps, unmark
from taxlt_mergekit.errors import UserError


def test_from_the_first_cell_to_the_last(tmp_path):
    assert stopped_sweeps(tmp_path) == stopped_sweeps(tmp_path / "absent") == []
    first = mark(tmp_path / "results", "12ab", 40, ["quy_plus_tgt.yml", "gn_plus_tgt.yml"])
    mark(tmp_path / "results", "34cd", 3, ["mine.yml"])
    note, other = stopped_sweeps(tmp_path / "results")
    assert "a sweep of 40 cells (quy_plus_tgt.yml, gn_plus_tgt.yml)" in note and first.name in note
    assert "a sweep of 3 cells (mine.yml)" in other
    for sweep in ("12ab", "34cd", "34cd"):
        unmark(tmp_path / "results", sweep)
    assert stopped_sweeps(tmp_path / "results") == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"cells": 3}'])
def test_a_damaged_one_says_it_too(tmp_path, text):
    mark(tmp_path, "12ab", 40, []).write_text(text)
    (note,) = stopped_sweeps(tmp_path)
    assert note.startswith(f"Unfinished: a sweep in {tmp_path} was stopped")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"unfinished-12ab\.json: cannot be written: "):
        mark(tmp_path / "file", "12ab", 40, [])
