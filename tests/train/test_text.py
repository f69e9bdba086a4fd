"""Raw text: which documents are read, how they become blocks, and what is refused."""

import gzip
import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train import blocks as block_stream
from taxlt_mergekit.train import text as corpus
from taxlt_mergekit.train.blocks import IGNORED, BlockStream, LanguageCollator, mask_tokens
from tests.helpers.tiny_models import xlmr_tokenizer
from tests.helpers.training import sentences

LINES = ["první řádek", "", "  second line  ", "\ufeffthird", "ka lu mi"]
DOCUMENTS = ["první řádek", "second line", "third", "ka lu mi"]


@pytest.fixture(scope="module")
def tokenizer():
    return xlmr_tokenizer(sentences(300), vocabulary=120)


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd", "two zstd frames", "crlf", "misnamed gzip"])
def test_documents_of_each_kind_of_file(packing, tmp_path):
    text = "\n".join(LINES).encode()
    content, name = {
        "plain": (text, "a.txt"),
        "gzip": (gzip.compress(text), "a.txt.gz"),
        "zstd": (zstandard.compress(text), "a.txt.zst"),
        "two zstd frames": (zstandard.compress(text[:20]) + zstandard.compress(text[20:]), "a.zst"),
        "crlf": (text.replace(b"\n", b"\r\n"), "a.txt"),
        "misnamed gzip": (gzip.compress(text), "a.txt"),
    }[packing]
    path = tmp_path / name
    path.write_bytes(content)
    assert list(corpus.read_documents(str(path), "text")) == DOCUMENTS


def test_documents_of_a_data_set(tmp_path):
    rows = [{"body": line, "n": 1} for line in DOCUMENTS]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert list(corpus.read_documents(str(tmp_path), "body")) == DOCUMENTS
    with pytest.raises(UserError, match="no column 'text'; its columns are body, n"):
        list(corpus.read_documents(str(tmp_path), "text"))
    with pytest.raises(UserError, match="column 'n' is not text"):
        list(corpus.read_documents(str(tmp_path), "n"))


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
        corpus.survey([str(path)], "text", 1)


def test_missing_and_empty_corpora(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        corpus.survey([str(tmp_path / "none.txt")], "text", 1)
    with pytest.raises(UserError, match="is not a file, and as a data set it could not be loaded"):
        corpus.survey(["nobody/such-data-set"], "text", 1)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"empty.txt is empty: it has no line with text"):
        corpus.survey([str(tmp_path / "empty.txt")], "text", 1)


@given(st.lists(st.text("aé語𝄞 ", min_size=0, max_size=40), min_size=1, max_size=5), st.integers(4, 20))
@settings(max_examples=60, deadline=None)
def test_overlong_lines_are_cut_between_characters_and_lose_none(tmp_path_factory, lines, longest):
    path = tmp_path_factory.mktemp("long") / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "LONGEST_LINE", longest)
        pieces = list(corpus.read_documents(str(path), "text"))
    assert "".join("".join(pieces).split()) == "".join("".join(lines).split())
    assert all(len(piece.encode()) <= 2 * longest for piece in pieces)


def test_survey_counts_and_hashes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    (facts,), smallest = corpus.survey([str(path)], "text", 7)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.documents == len(DOCUMENTS)
    assert facts.bytes == sum(len(document.encode()) for document in DOCUMENTS)
    assert smallest == sorted(corpus.document_hash(document, 7) for document in DOCUMENTS)[:2]


@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
@settings(max_examples=30, deadline=None)
def test_held_out_share(seed, share):
    documents = sorted(set(sentences(2000, seed=3)))
    smallest = sorted(corpus.document_hash(document, seed) for document in documents)[:2]
    held = corpus.held_out(share, seed, smallest)
    part = sum(document in held for document in documents) / len(documents)
    assert abs(part - share) < 5 * (share * (1 - share) / len(documents)) ** 0.5


def test_held_out_is_never_nothing_and_never_the_only_document():
    marks = sorted(corpus.document_hash(document, 0) for document in ("a", "b"))
    held = corpus.held_out(1e-9, 0, marks)
    assert [document in held for document in ("a", "b")].count(True) == 1
    with pytest.raises(UserError, match="one document"):
        corpus.held_out(0.05, 0, marks[:1])


@given(st.lists(st.sampled_from(sentences(50)), min_size=1, max_size=30), st.integers(2, 40), st.booleans())
@settings(max_examples=50, deadline=None)
def test_blocks_hold_every_token_in_order(tokenizer, documents, length, keep_rest):
    whole = [token for document in documents for token in tokenizer(document)["input_ids"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_stream, "TOKENISED_TOGETHER", 100)
        blocks = list(block_stream.token_blocks(documents, tokenizer, length, None, keep_rest))
    assert all(len(block) == length for block in blocks[: -1 if keep_rest else None])
    joined = [token for block in blocks for token in block]
    assert joined == (whole if keep_rest else whole[: len(whole) // length * length])


def test_a_separator_ends_each_document(tokenizer):
    (block,) = block_stream.token_blocks(["ka", "lu"], tokenizer, 100, 99, keep_rest=True)
    assert block.count(99) == 2
    assert block[-1] == 99


def cached(path, tokenizer, part="train", seed=1, **changes):
    facts, smallest = corpus.survey([str(path)], "text", seed)
    held = corpus.held_out(changes.pop("share", 0.2), seed, smallest)
    blocks = block_stream.cached_blocks(facts, part, held, "text", tokenizer, changes.get("length", 16), None)
    return list(blocks["input_ids"])


def test_cache_is_used_and_follows_what_it_depends_on(tokenizer, small_cache, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences(60)), encoding="utf-8")
    first = cached(path, tokenizer)
    calls = []
    real = block_stream.token_blocks
    monkeypatch.setattr(block_stream, "token_blocks", lambda *a, **k: calls.append(a) or real(*a, **k))
    assert cached(path, tokenizer) == first
    assert not calls
    others = [
        cached(path, tokenizer, part="validation"),
        cached(path, tokenizer, seed=2),
        cached(path, tokenizer, share=0.3),
        cached(path, tokenizer, length=8),
        cached(path, xlmr_tokenizer(sentences(300), vocabulary=30)),
    ]
    path.write_text("\n".join(sentences(61)), encoding="utf-8")
    others.append(cached(path, tokenizer))
    assert len(calls) == len(others)
    assert all(other != first for other in others)


def test_parts_share_no_document(tokenizer, small_cache, tmp_path):
    lines = [f"{word} {word}" for word in sentences(300)] * 2  # every document twice
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    text = {
        part: tokenizer.decode([token for block in cached(path, tokenizer, part) for token in block])
        for part in ("train", "validation")
    }
    found = {part: {line for line in lines if line in decoded} for part, decoded in text.items()}
    assert found["validation"]
    assert not found["train"] & found["validation"]


class Rows:
    """Stands for a data set of blocks: row i holds the token i, over and over."""

    def __init__(self, count, length=4):
        self.ids = np.repeat(np.arange(count), length).reshape(count, length)

    cache_files = ()

    def with_format(self, _):
        return self

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, rows):
        return {"input_ids": self.ids[rows]}


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 1000))
def test_a_stream_gives_every_block_once_a_turn(count, turns, seed):
    stream = BlockStream(Rows(count), turns * count, seed, shuffle=True)
    seen = [block["input_ids"][0] for block in stream.__getitems__(range(len(stream)))]
    for turn in range(turns):
        assert sorted(seen[turn * count : (turn + 1) * count]) == list(range(count))
    # Any position, in any order, is the same block with the same key.
    again = BlockStream(Rows(count), turns * count, seed, shuffle=True)
    for position in reversed(range(len(again))):
        block = again[position]
        assert block["input_ids"][0] == seen[position]
        assert block["key"] == (seed, 1, position)


def test_mapped_blocks_are_the_rows_of_the_files(tokenizer, small_cache, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences(200)), encoding="utf-8")
    facts, smallest = corpus.survey([str(path)], "text", 1)
    held = corpus.held_out(0.1, 1, smallest)
    blocks = block_stream.cached_blocks(facts, "validation", held, "text", tokenizer, 16, None)
    files = [part["filename"] for part in blocks.cache_files]
    assert files
    monkeypatch.setattr(block_stream, "GIVEN_BACK_AFTER", 3)  # pages go, rows stay
    mapped = block_stream.MappedBlocks(files * 2)
    expected = list(blocks["input_ids"]) * 2
    order = np.random.default_rng(0).permutation(len(expected)).tolist()
    for copy in (mapped, pickle.loads(pickle.dumps(mapped))):
        assert len(copy) == len(expected)
        for start in range(0, len(order), 5):
            rows = order[start : start + 5]
            found = [ids.tolist() for ids in copy[rows]["input_ids"]]
            assert found == [expected[row] for row in rows]
    assert len(pickle.dumps(mapped)) < 2000


def test_turns_have_different_orders():
    stream = BlockStream(Rows(50), 100, 0, shuffle=True)
    seen = [int(block["input_ids"][0]) for block in stream.__getitems__(range(100))]
    assert seen[:50] != seen[50:]
    assert seen[:50] != list(range(50))


def test_shares_of_masking():
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 1000, (400, 256))
    maskable = ids > 100
    seen, labels = mask_tokens(ids, maskable, rng.random((3, 400, 256)), 0.15, 5, 1000)
    chosen = labels != IGNORED
    assert not (chosen & ~maskable).any()
    assert (labels[chosen] == ids[chosen]).all()
    assert (seen[~chosen] == ids[~chosen]).all()
    assert chosen.sum() / maskable.sum() == pytest.approx(0.15, abs=0.005)
    masked = (seen == 5) & chosen
    stayed = (seen == ids) & chosen
    assert masked.sum() / chosen.sum() == pytest.approx(0.8, abs=0.01)
    assert stayed.sum() / chosen.sum() == pytest.approx(0.1, abs=0.01)


def test_masks_do_not_depend_on_the_batch(tokenizer):
    collate = LanguageCollator(tokenizer, 0.15)
    rng = np.random.default_rng(0)
    blocks = [
        {"input_ids": rng.integers(4, 100, length), "key": (3, 0, place)}
        for place, length in enumerate([60, 60, 60, 23])
    ]
    together = collate(blocks)
    for place, block in enumerate(blocks):
        alone = collate([block])
        length = len(block["input_ids"])
        for name, value in alone.items():
            assert value[0].equal(together[name][place, :length])
    assert (together["labels"][3, 23:] == IGNORED).all()
    assert (together["attention_mask"][3] == 1).sum() == 23
    assert not collate([{**blocks[0], "key": (4, 0, 0)}])["labels"].equal(collate([blocks[0]])["labels"])


def test_next_token_labels_leave_padding_out(tokenizer):
    blocks = [{"input_ids": np.arange(length), "key": (0,)} for length in (5, 3)]
    batch = LanguageCollator(tokenizer, None)(blocks)
    assert batch["labels"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, IGNORED, IGNORED]]


def test_memory_does_not_grow_with_the_text(tokenizer, tmp_path):
    """Reading and tokenising 8 MB takes no more private memory than 1 MB (benchmarks/train.py has 200 MB)."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    line = "\n".join(sentences(500)) + "\n"
    peaks = []
    for times in (30, 240):
        path = tmp_path / f"{times}.txt"
        path.write_text("".join(f"{turn} {line}" for turn in range(times)), encoding="utf-8")
        code = (
            "import sys, resource, transformers\n"
            "from taxlt_mergekit.train import blocks as block_stream, text as corpus\n"
            "tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])\n"
            "facts, smallest = corpus.survey([sys.argv[2]], 'text', 1)\n"
            "held = corpus.held_out(0.05, 1, smallest)\n"
            "for part in ('train', 'validation'):\n"
            "    blocks = block_stream.cached_blocks(facts, part, held, 'text', tokenizer, 256, None)\n"
            "assert len(blocks) > 5\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        environment = {
            "HF_DATASETS_CACHE": str(tmp_path / f"cache{times}"),
            "PATH": "",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-c", code, str(tmp_path / "tokenizer"), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0], peaks
