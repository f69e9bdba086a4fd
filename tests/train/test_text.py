"""Corpora of raw text: which documents are read, counted and held out, and what is refused."""

import gzip
import hashlib
import json

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


def test_documents_of_a_data_set(tmp_path):
    rows = [{"body": line, "n": 1} for line in DOCUMENTS]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert list(text.read_documents(str(tmp_path), "body")) == DOCUMENTS
    with pytest.raises(UserError, match="no column 'text'; its columns are body, n"):
        list(text.read_documents(str(tmp_path), "text"))
    with pytest.raises(UserError, match="column 'n' is not text"):
        list(text.read_documents(str(tmp_path), "n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\nalso good\nb\xe9d\n", r"a.txt, line 3: byte 2 \(0xe9\) is not UTF-8"),
        (b"\x00\x01\x02\xff" * 10, "a.txt, line 1: a NUL byte, so this is a binary file"),
        ("utf sixteen".encode("utf-16"), "a.txt, line 1: a NUL byte"),
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
    assert all(len(piece.encode()) <= 2 * longest for piece in pieces)


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
