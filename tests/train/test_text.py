"""Corpora of raw text: which documents are read, counted and held out, and what is refused."""

import csv
import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import datasets
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train import text
from tests.helpers.training import sentences

LINES = ["první řádek", "", "  second line  ", "\ufeffthird", "ka lu mi"]
DOCUMENTS = ["první řádek", "second line", "third", "ka lu mi"]


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd", "two zstd frames", "crlf", "misnamed gzip"])
def test_documents_of_each_kind_of_file(packing, tmp_path):
    raw = "\n".join(LINES).encode()
    content, name = {
        "plain": (raw, "a.txt"),
        "gzip": (gzip.compress(raw), "a.txt.gz"),
        "zstd": (zstandard.compress(raw), "a.txt.zst"),
        "two zstd frames": (zstandard.compress(raw[:20]) + zstandard.compress(raw[20:]), "a.zst"),
        "crlf": (raw.replace(b"\n", b"\r\n"), "a.txt"),
        "misnamed gzip": (gzip.compress(raw), "a.txt"),
    }[packing]
    path = tmp_path / name
    path.write_bytes(content)
    assert list(text.read_documents(str(path), "text")) == DOCUMENTS


def write_rows(path: Path, column: str, documents: Sequence[str | None]) -> None:
    """Documents as rows of a file, in the form that its name ends in."""
    rows = datasets.Dataset.from_dict({"n": list(range(len(documents))), column: list(documents)})
    if path.suffix == ".parquet":
        rows.to_parquet(path)
    elif path.suffix == ".arrow":
        rows.save_to_disk(path.parent)
        (path.parent / "data-00000-of-00001.arrow").rename(path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            dialect = {"delimiter": "," if path.suffix == ".csv" else "\t"}
            csv.writer(file, **dialect).writerows([("n", column), *enumerate(documents)])
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


@pytest.mark.parametrize("name", [f"a.{kind}" for kind in ("csv", "tsv", "jsonl", "ndjson", "json", "JSONL")])
def test_documents_of_files_with_columns(name, tmp_path):
    path = tmp_path / name
    write_rows(path, "body", [*DOCUMENTS, " ", "true", "NA", "12"])
    expected = [*DOCUMENTS, "true", "NA", "12"]  # which a reader of tables takes for other things than text
    assert list(text.read_documents(str(path), "body")) == expected
    assert list(text.read_documents(str(tmp_path), "body")) == expected
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(text.read_documents(str(packed), "body")) == expected
    with pytest.raises(
        UserError, match=rf"{name}.* 'text'; its .* are n, body \(choose with --text-column\)"
    ):
        list(text.read_documents(str(path), "text"))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_documents_of_columnar_files(name, tmp_path):
    path = tmp_path / name
    write_rows(path, "body", [*DOCUMENTS, None, "NA"])
    for corpus in (path, tmp_path):
        assert list(text.read_documents(str(corpus), "body")) == [*DOCUMENTS, "NA"]
    with pytest.raises(UserError, match="has no column 'text'; its columns are n, body"):
        list(text.read_documents(str(path), "text"))
    with pytest.raises(UserError, match="column 'n' is not text, but has 0"):
        list(text.read_documents(str(path), "n"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=f"{name} cannot be read: "):
        list(text.read_documents(str(path), "body"))


def test_a_column_of_json_that_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ["a", "b"]}\n')
    with pytest.raises(UserError, match=r"column 'text' is not text, but has \['a', 'b'\]"):
        list(text.read_documents(str(tmp_path / "a.jsonl"), "text"))


def test_a_data_sets_other_splits_are_named(tmp_path, monkeypatch):
    """The hub itself is out of reach of a test; this stands in for what `load_dataset` gives."""
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"body": line}) for line in DOCUMENTS))
    (tmp_path / "test.jsonl").write_text(json.dumps({"body": "more"}))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    cache = {"cache_dir": str(tmp_path / "cache")}
    stand_in = datasets.load_dataset("json", data_files=files, split="train", **cache)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stand_in)
    assert list(text.read_documents("someone/words:quy", "body")) == DOCUMENTS
    assert text.corpus_notes("someone/words:quy") == ["not read of someone/words:quy: test (a split)"]
    with pytest.raises(UserError, match="someone/words:quy has no column 'text'; its columns are body"):
        list(text.read_documents("someone/words:quy", "text"))


names = st.sampled_from(
    ["train", "test", "validation", "dev", "quy_train", "soil_training", "a", "b.c", "corpus"]
)
endings = st.sampled_from(["", ".txt", ".TXT", ".quy", ".txt.gz", ".jsonl", ".csv", ".zst"])
places = st.sampled_from(["", "sub/", "sub/train.d/", "test.d/"])


@given(st.sets(st.tuples(places, names, endings), min_size=1))
@settings(max_examples=40, deadline=None)
def test_every_file_of_a_folder_is_read_whatever_its_name(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("folder")
    written = {}
    for place, name, ending in files:
        path = root / place / (name + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = f"{place} {name} {ending}"
        plain = {".jsonl": json.dumps({"text": document}), ".csv": f"text\n{document}"}.get(ending, document)
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(plain.encode()))
        written[path.relative_to(root)] = document.strip()
    expected = [written[path] for path in sorted(written)]
    assert list(text.read_documents(str(root), "text")) == expected
    assert text.corpus_files(str(root)).left_out == ()


def test_what_is_left_out_of_a_folder_is_named_with_the_reason(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("b")
    for name in (
        "a.txt",
        "sub/c.txt",
        "README.md",
        "sub/LICENSE",
        "dataset_info.json",
        ".hidden",
        ".git/config",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "sub" / "words.txt.tar.gz").write_bytes(gzip.compress(b"words" + bytes(500)))
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.txt").symlink_to(tmp_path / "elsewhere" / "b.txt")
    (files, left_out) = text.corpus_notes(str(tmp_path))
    assert files == f"{tmp_path}: 4 files, a.txt, b.txt, elsewhere/b.txt, sub/c.txt"
    assert left_out == (
        f"not read of {tmp_path}: .git, .hidden (hidden); README.md, sub/LICENSE (about the data); broken "
        "(no file); dataset_info.json (notes of the library datasets); linked (a link to a folder); "
        "photo.png, sub/words.txt.tar.gz (binary)"
    )
    assert list(text.read_documents(str(tmp_path), "text")) == ["a.txt", "b", "b", "sub/c.txt"]


def test_folders_that_give_nothing(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "a.bin").write_bytes(bytes(9))
    with pytest.raises(UserError, match=r"empty: the folder has no file of text$"):
        text.survey([str(tmp_path / "empty")], "text", 1)
    with pytest.raises(UserError, match=r"binary: the folder has no file of text \(a.bin \(binary\)\)"):
        text.survey([str(tmp_path / "binary")], "text", 1)
    (tmp_path / "binary" / "b.txt").write_bytes(b"b\xe9")
    with pytest.raises(UserError, match=r"b.txt, line 1: byte 2 \(0xe9\) is not UTF-8"):
        text.survey([str(tmp_path / "binary")], "text", 1)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    # Whoever runs these tests as root is denied nothing.
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"corpus .*binary cannot be read: Permission denied"):
        text.survey([str(tmp_path / "binary")], "text", 1)


def test_facts_of_a_folder_are_those_of_its_files(tmp_path):
    for name, lines in {"b.txt": ["b", "c"], "a/a.txt": ["a"]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(lines))
    (facts,), _ = text.survey([str(tmp_path)], "text", 1)
    assert (facts.documents, facts.bytes) == (3, 3)
    sums = [
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("a/a.txt", "b.txt")
    ]
    assert facts.sha256 == hashlib.sha256("".join(sums).encode()).hexdigest()
    (tmp_path / "b.txt").rename(tmp_path / "0.txt")
    (moved,), _ = text.survey([str(tmp_path)], "text", 1)
    assert moved.sha256 != facts.sha256, "the order is another, and so are the blocks"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\nalso good\nb\xe9d\n", r"a.txt, line 3: byte 2 \(0xe9\) is not UTF-8"),
        (b"\x00\x01\x02\xff" * 10, "a.txt, line 1: a NUL byte, so this is a binary file"),
        ("utf sixteen".encode("utf-16"), "a.txt, line 1: UTF-16, as its byte-order mark says"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a.txt is a Git-LFS pointer"),
        ("utf sixteen".encode("utf-16-le"), "a.txt, line 1: a NUL byte"),
        (gzip.compress(b"word " * 5000, mtime=0)[:40], "a.txt: a damaged archive"),
        (zstandard.compress(b"word " * 5000)[:-6], "a.txt: a damaged archive"),
        (zstandard.compress(b"word " * 5000)[:9] + b"?" * 20, "a.txt: a damaged archive"),
    ],
)
def test_what_is_not_text_is_named_with_its_line(content, message, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        text.survey([str(path)], "text", 1)


def test_missing_and_empty_corpora(small_cache, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        text.survey([str(tmp_path / "none.txt")], "text", 1)
    with pytest.raises(UserError, match="is not a file, and as a data set it could not be loaded"):
        text.survey(["nobody/such-data-set"], "text", 1)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"empty.txt is empty: it has no line with text"):
        text.survey([str(tmp_path / "empty.txt")], "text", 1)


@given(st.lists(st.text("aé語𝄞 ", min_size=0, max_size=40), min_size=1, max_size=5), st.integers(4, 20))
@settings(max_examples=60, deadline=None)
def test_overlong_lines_are_cut_between_characters_and_lose_none(tmp_path_factory, lines, longest):
    path = tmp_path_factory.mktemp("long") / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "LONGEST_LINE", longest)
        pieces = list(text.read_documents(str(path), "text"))
    assert "".join("".join(pieces).split()) == "".join("".join(lines).split())
    assert all(len(piece) <= 2 * longest for piece in pieces)


def test_survey_counts_and_hashes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    (facts,), smallest = text.survey([str(path)], "text", 7)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.documents == len(DOCUMENTS)
    assert facts.bytes == sum(len(document.encode()) for document in DOCUMENTS)
    assert smallest == sorted(text.document_hash(document, 7) for document in DOCUMENTS)[:2]


@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
@settings(max_examples=30, deadline=None)
def test_held_out_share(seed, share):
    documents = sorted(set(sentences(2000, seed=3)))
    smallest = sorted(text.document_hash(document, seed) for document in documents)[:2]
    held = text.held_out(share, seed, smallest)
    part = sum(document in held for document in documents) / len(documents)
    assert abs(part - share) < 5 * (share * (1 - share) / len(documents)) ** 0.5


def test_held_out_is_never_nothing_and_never_the_only_document():
    marks = sorted(text.document_hash(document, 0) for document in ("a", "b"))
    held = text.held_out(1e-9, 0, marks)
    assert [document in held for document in ("a", "b")].count(True) == 1
    with pytest.raises(UserError, match="one document"):
        text.held_out(0.05, 0, marks[:1])
