"""`cells.jsonl`: what was appended is read back, whatever a kill or a full disk left of the last line."""

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from taxlt_mergekit.cells.store import CELLS_FILE, Coverage, Parameters, append_cell, read_cells
from taxlt_mergekit.errors import UserError
from tests.helpers.cells import make_cell
from tests.helpers.hosts import console


def test_cells_come_back_and_a_later_one_replaces_an_earlier(tmp_path):
    first, second = make_cell("a", seed=1), make_cell("b", language="gn")
    again = make_cell("a", metrics={"acc": 0.625})
    for cell in (first, second, again):
        append_cell(tmp_path / "results", cell)
    assert read_cells(tmp_path / "results") == [again, second]


def test_a_line_is_what_the_documentation_says(tmp_path):
    append_cell(tmp_path, make_cell())
    row = json.loads((tmp_path / CELLS_FILE).read_text())
    assert row["format"] == 1
    assert row["parameters"] == {
        "source_weight": None,
        "target_weight": 0.9,
        "density": None,
        "select": None,
        "scope": None,
        "groups": None,
    }
    assert row["documents"] == {"target": [0, 1, 2], "prediction": [0, 1, 1]}
    assert row["seconds"] == {"merge": None, "evaluate": None}


@pytest.mark.parametrize(
    ("parameters", "weight"),
    [
        ({}, None),
        ({"target_weight": 0.9}, 0.9),
        ({"source_weight": 0.3, "target_weight": 0.3, "density": 0.2}, 0.3),
        ({"source_weight": 0.3, "target_weight": 0.9}, None),
    ],
)
def test_one_weight_and_whole_vectors(parameters, weight):
    found = Parameters(**parameters)
    assert found.weight == weight
    assert found.dense == Parameters(**{name: of for name, of in parameters.items() if "weight" in name})


def test_a_folder_without_cells_has_none(tmp_path):
    assert read_cells(tmp_path) == []
    assert read_cells(tmp_path / "absent") == []


@given(cut=st.integers(min_value=0))
def test_a_torn_last_line_is_dropped_and_mended(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    append_cell(folder, make_cell("a"))
    whole = (folder / CELLS_FILE).read_bytes()
    append_cell(folder, make_cell("b"))
    both = (folder / CELLS_FILE).read_bytes()
    cut = len(whole) + cut % (len(both) - len(whole))
    (folder / CELLS_FILE).write_bytes(both[:cut])
    assert [cell.key for cell in read_cells(folder)] == ["a"]
    append_cell(folder, make_cell("c"))
    assert [cell.key for cell in read_cells(folder)] == ["a", "c"]


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path):
    append_cell(tmp_path, make_cell("a"))
    with open(tmp_path / CELLS_FILE, "ab") as file:
        file.write(b"x" * 200_000)
    append_cell(tmp_path, make_cell("b"))
    assert [cell.key for cell in read_cells(tmp_path)] == ["a", "b"]
    (tmp_path / CELLS_FILE).write_bytes(b"x" * 200_000)
    append_cell(tmp_path, make_cell("b"))
    assert [cell.key for cell in read_cells(tmp_path)] == ["b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"format": 2, "key": "a"}', "results of format 2, but this version reads format 1"),
        ("[1]", "results of format None"),
        ("{broken", "not a line of JSON"),
        ('{"format": 1, "key": "a"}', "variant: Field required"),
    ],
)
def test_a_foreign_line_is_refused_with_file_and_line(tmp_path, line, message):
    append_cell(tmp_path, make_cell())
    path = tmp_path / CELLS_FILE
    path.write_text(path.read_text() + line + "\n" + make_cell("z").model_dump_json() + "\n")
    with pytest.raises(UserError) as error:
        read_cells(tmp_path)
    assert f"{path}, line 2: " in str(error.value)
    assert message in str(error.value)


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for use in (read_cells, lambda folder: append_cell(folder, make_cell())):
        with pytest.raises(UserError, match="file"):
            use(tmp_path / "file")


@pytest.mark.parametrize(
    "fields",
    [
        {"metrics": {"acc": float("nan")}},
        {"status": "failed"},
        {"reason": "out of memory"},
        {"split": "validation"},
        {"documents": {"target": [0], "prediction": []}},
        {"parameters": {"density": 0.0}},
        {"parameters": {"lamda": 0.5}},
    ],
)
def test_an_impossible_cell_is_not_made(fields):
    with pytest.raises(ValidationError):
        make_cell(**fields)


@pytest.mark.parametrize(
    ("coverage", "is_part"),
    [
        (None, False),
        (Coverage(scored=60, total=60), False),
        (Coverage(scored=20, total=60), True),
        (Coverage(scored=20, total=None), True),
    ],
)
def test_a_part_is_not_the_whole(tmp_path, coverage, is_part):
    append_cell(tmp_path, make_cell(coverage=coverage))
    (cell,) = read_cells(tmp_path)
    assert (cell.coverage, cell.is_part) == (coverage, is_part)


LITTLE_ROOM = """
import resource, sys
from pathlib import Path
from taxlt_mergekit.cells.store import CELLS_FILE, append_cell
from tests.helpers.cells import make_cell
size = Path(sys.argv[1], CELLS_FILE).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
append_cell(sys.argv[1], make_cell("b"))
"""


def test_a_cell_for_which_there_is_no_room_leaves_nothing_of_itself(tmp_path):
    append_cell(tmp_path, make_cell("a"))
    before = (tmp_path / CELLS_FILE).read_bytes()
    done = console("python", "-c", LITTLE_ROOM, tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    assert done.code == 1 and "cells.jsonl: cannot be written: File too large" in done.last_line
    assert (tmp_path / CELLS_FILE).read_bytes() == before


def test_what_an_editor_makes_of_the_encoding(tmp_path):
    append_cell(tmp_path, make_cell("a"))
    path = tmp_path / CELLS_FILE
    text = path.read_text()
    path.write_bytes(codecs.BOM_UTF8 + text.encode())
    assert [cell.key for cell in read_cells(tmp_path)] == ["a"]
    path.write_text(text, encoding="utf-16")
    with pytest.raises(UserError, match=r"cells\.jsonl: is UTF-16 text; save it as UTF-8"):
        read_cells(tmp_path)
