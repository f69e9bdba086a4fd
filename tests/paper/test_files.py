"""Text files as people have them: packings, encodings, tables and JSON lines, and what is said of others."""

import csv
import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.files import file_kind, is_binary, read_json_lines, read_table, text_lines

ROWS = [{"text": "caf\u00e9 \u0443\u0442\u0440\u043e", "label": "a"}, {"text": "ka lu", "label": "b"}]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n"


def content(kind: str) -> bytes:
    if kind == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    mark = "," if kind == ".csv" else "\t"
    return "".join(f"{a}{mark}{b}\n" for a, b in [("text", "label"), *map(dict.values, ROWS)]).encode()


def read(path: Path) -> list[dict]:
    columns = ["text", "label"]
    return list((read_json_lines if file_kind(path) == ".jsonl" else read_table)(path, columns))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize(
    "form",
    {
        "plain": lambda raw: raw,
        "byte-order mark": lambda raw: b"\xef\xbb\xbf" + raw,
        "lines of Windows": lambda raw: raw.replace(b"\n", b"\r\n"),
        "lines of old Macs": lambda raw: raw.replace(b"\n", b"\r"),
        "blank lines": lambda raw: raw.replace(b"\n", b"\n\n") + b"\n  \n",
        "no last line end": lambda raw: raw.rstrip(),
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
    }.items(),
    ids=lambda form: form[0],
)
def test_rows_are_the_same_in_every_form(kind, form, tmp_path):
    path = tmp_path / f"a{kind}{ {'gzip': '.gz', 'zstd': '.ZST'}.get(form[0], '') }"
    path.write_bytes(form[1](content(kind)))
    assert file_kind(path) == kind
    assert read(path) == ROWS
    assert not is_binary(path)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda raw: raw.decode().replace("\u0443\u0442\u0440\u043e", "").encode("latin-1"), ": byte"),
        (lambda raw: raw.decode().encode("utf-16"), ", line 1: UTF-16, as its byte-order mark says; convert"),
        (lambda raw: raw.decode().encode("utf-32"), ", line 1: UTF-32, as its byte-order mark says; convert"),
        (
            lambda raw: raw.decode().encode("utf-16-be"),
            ", line 1: a NUL byte, so this is a binary file or UTF",
        ),
        (lambda raw: POINTER, " is a Git-LFS pointer, not the file itself; fetch it with git lfs pull"),
        (lambda raw: gzip.compress(raw, mtime=0)[:-9], ": a damaged archive (Compressed file ended before"),
        (lambda raw: zstandard.compress(raw)[:-3], ": a damaged archive (it ends in the middle of a frame)"),
    ],
    ids=["latin-1", "utf-16", "utf-32", "utf-16 without a mark", "git lfs", "short gzip", "short zstd"],
)
def test_what_is_not_utf_8_is_named(kind, form, message, tmp_path):
    path = tmp_path / f"a{kind}"
    path.write_bytes(form(content(kind)))
    found = refusal(path)
    assert found.startswith(str(path)) and message in found
    if message == ": byte":
        line = 1 if kind == ".jsonl" else 2
        at = content(kind).splitlines()[line - 1].index("\u00e9".encode()) + 1
        assert f", line {line}: byte {at} (0xe9) is not UTF-8; convert the file" in found


def test_files_that_cannot_be_read_are_named(tmp_path):
    assert refusal(tmp_path / "none.csv").startswith(f"{tmp_path / 'none.csv'} cannot be read: No such file")
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read: Is a directory" in refusal(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.csv", ["text,label,text", "x,y,z"], " has the column 'text' twice; its columns are text, label"),
        ("a.csv", ["text;label", "x;y"], " has no column 'text'; its columns are text;label"),
        ("a.csv", ["text,label", "x,y", "x"], ", line 3: 1 fields where 2 are due"),
        ("a.csv", ["text,label", 'x,"y'], ", line 2: unexpected end of data"),
        ("a.csv", [], " has no column 'text'; its columns are "),
        ("a.tsv", ["text\tlabel", "x\ty\tz"], ", line 2: 3 fields where 2 are due"),
        ("a.jsonl", ['{"text": "x"}'], ", line 1: no field 'label'; its fields are text"),
        ("a.jsonl", ['{"text": "x", "label": 1}', "{"], ", line 2: not JSON, one object a line (Expecting"),
        ("a.jsonl", ['[{"text": "x"}]'], ", line 1: not a JSON object with the fields text, label"),
        ("a.jsonl", ["[" * 100_000], ", line 1: not JSON, one object a line (maximum recursion"),
        ("a.jsonl", ['{"text": "\\ud83d", "label": 1}'], ", line 1: 'text' holds half a character (\\ud83d)"),
        ("a.jsonl", ['{"text": "", "label": "\\uDC00"}'], ", line 1: 'label' holds half a character (\\udc"),
    ],
)  # fmt: skip
def test_rows_that_are_not_what_they_should_be(name, lines, message, tmp_path):
    path = tmp_path / name
    path.write_text("\n".join(lines))
    assert refusal(path).startswith(f"{path}{message}")


def test_whole_characters_in_two_halves_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude00", "label": 1}')
    assert read(tmp_path / "a.jsonl") == [{"text": "\U0001f600", "label": 1}]


def test_lines_of_separators_alone_are_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,y\n,\n , \n")
    (tmp_path / "a.tsv").write_text("\ntext\tlabel\nx\ty\n\t\n")
    assert read(tmp_path / "a.csv") == read(tmp_path / "a.tsv") == [{"text": "x", "label": "y"}]


# The separators of lines and what no text has. A blank line is no row.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)
texts = texts.filter(str.strip)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.integers(1, 200_000))
@settings(max_examples=60, deadline=None)
def test_csv_and_json_give_every_text_back(tmp_path_factory, rows, longest):
    folder = tmp_path_factory.mktemp("texts")
    rows = [*rows, ("long " * (longest // 5 + 1), "b")]
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    lines = [json.dumps({"text": a, "label": b}, ensure_ascii=len(a) % 2 == 0) for a, b in rows]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in ("a.csv", "a.jsonl"):
        assert [(row["text"], row["label"]) for row in read(folder / name)] == rows


@pytest.mark.parametrize(
    "raw",
    [b"%PDF-1.4", b"PK\x03\x04zip", b"\x7fELF\0", gzip.compress(b"tar\0" * 9)],
    ids=["pdf", "zip", "elf", "gzip"],
)
def test_binary_files_are_known(raw, tmp_path):
    (tmp_path / "a").write_bytes(raw)
    assert is_binary(tmp_path / "a")


def test_pieces_of_long_lines_keep_their_number(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefg\nhi\n")
    assert list(text_lines(tmp_path / "a.txt", longest=3)) == [
        *((1, piece) for piece in ("abc", "def", "g\n")),
        (2, "hi\n"),
    ]
