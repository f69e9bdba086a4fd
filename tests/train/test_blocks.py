"""Blocks of tokens: how text becomes blocks, the cache, the order they are read in, and their masks."""

import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.train import blocks as module
from taxlt_mergekit.train.blocks import (
    IGNORED,
    BlockStream,
    LanguageCollator,
    cached_blocks,
    mask_tokens,
    token_blocks,
)
from taxlt_mergekit.train.text import held_out, survey
from tests.helpers.tiny_models import xlmr_tokenizer
from tests.helpers.training import sentences


@pytest.fixture(scope="module")
def tokenizer():
    return xlmr_tokenizer(sentences(300), vocabulary=120)


@given(st.lists(st.sampled_from(sentences(50)), min_size=1, max_size=30), st.integers(2, 40), st.booleans())
@settings(max_examples=50, deadline=None)
def test_blocks_hold_every_token_in_order(tokenizer, documents, length, keep_rest):
    whole = [token for document in documents for token in tokenizer(document)["input_ids"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TOKENISED_TOGETHER", 100)
        blocks = list(token_blocks(documents, tokenizer, length, None, keep_rest))
    assert all(len(block) == length for block in blocks[: -1 if keep_rest else None])
    joined = [token for block in blocks for token in block]
    assert joined == (whole if keep_rest else whole[: len(whole) // length * length])


def test_a_separator_ends_each_document(tokenizer):
    (block,) = token_blocks(["ka", "lu"], tokenizer, 100, 99, keep_rest=True)
    assert block.count(99) == 2
    assert block[-1] == 99


def cached(path: Path, tokenizer, part="train", seed=1, share=0.2, length=16) -> datasets.Dataset:
    facts, smallest = survey([str(path)], "text", seed)
    return cached_blocks(facts, part, held_out(share, seed, smallest), "text", tokenizer, length, None)


def test_cache_is_used_and_follows_what_it_depends_on(tokenizer, small_cache, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences(60)), encoding="utf-8")
    first = list(cached(path, tokenizer)["input_ids"])
    calls = []
    real = module.token_blocks
    monkeypatch.setattr(module, "token_blocks", lambda *a, **k: calls.append(a) or real(*a, **k))
    assert list(cached(path, tokenizer)["input_ids"]) == first
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
    assert all(list(other["input_ids"]) != first for other in others)


def test_parts_share_no_document(tokenizer, small_cache, tmp_path):
    lines = [f"{word} {word}" for word in sentences(300)] * 2  # every document twice
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    text = {
        part: tokenizer.decode(
            [token for block in cached(path, tokenizer, part)["input_ids"] for token in block]
        )
        for part in ("train", "validation")
    }
    found = {part: {line for line in lines if line in decoded} for part, decoded in text.items()}
    assert found["validation"]
    assert not found["train"] & found["validation"]


def numbered(count: int) -> datasets.Dataset:
    """Blocks of four tokens: block i holds the token i, over and over."""
    return datasets.Dataset.from_dict({"input_ids": [[number] * 4 for number in range(count)]})


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 1000))
@settings(deadline=None)
def test_a_stream_gives_every_block_once_a_turn(count, turns, seed):
    stream = BlockStream(numbered(count), turns * count, seed, shuffle=True)
    seen = [block["input_ids"][0] for block in stream.__getitems__(range(len(stream)))]
    for turn in range(turns):
        assert sorted(seen[turn * count : (turn + 1) * count]) == list(range(count))
    # Any position, in any order, is the same block with the same key.
    again = BlockStream(numbered(count), turns * count, seed, shuffle=True)
    for position in reversed(range(len(again))):
        block = again[position]
        assert block["input_ids"][0] == seen[position]
        assert block["key"] == (seed, 1, position)


def test_a_stream_reads_the_file_in_this_process_and_in_workers(tokenizer, small_cache, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences(200)), encoding="utf-8")
    blocks = cached(path, tokenizer, "validation")
    expected = list(blocks["input_ids"])
    assert len(expected[-1]) < 16, "the last block is a shorter one"
    stream = BlockStream(blocks, len(blocks), 1, shuffle=False)
    order = np.random.default_rng(0).permutation(len(expected)).tolist()
    for copy in (stream, pickle.loads(pickle.dumps(stream))):
        found = [
            block["input_ids"].tolist()
            for at in range(0, len(order), 5)
            for block in copy.__getitems__(order[at : at + 5])
        ]
        assert found == [expected[row] for row in order]
    assert len(pickle.dumps(stream)) < 5000  # the file's name, not its content


def test_turns_have_different_orders():
    stream = BlockStream(numbered(50), 100, 0, shuffle=True)
    seen = [int(block["input_ids"][0]) for block in stream.__getitems__(range(100))]
    assert seen[:50] != seen[50:]
    assert seen[:50] != list(range(50))


def test_shares_of_masking():
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 1000, (400, 256))
    maskable = ids > 100
    seen, labels = mask_tokens(ids, maskable, rng.random((3, 400, 256)), 0.15, 5, np.arange(1000))
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


# Reads a text into blocks and every block at random, as training does; prints the most private memory in kB.
READ_ALL = """
import sys, threading, time, transformers
from taxlt_mergekit.train.blocks import BlockStream, cached_blocks
from taxlt_mergekit.train.text import held_out, survey

def private():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

def watch():
    while True:
        most[0] = max(most[0], private())
        time.sleep(0.02)

tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
most = [0]
threading.Thread(target=watch, daemon=True).start()
facts, smallest = survey([sys.argv[2]], "text", 1)
held = held_out(0.05, 1, smallest)
for part in ("train", "validation"):
    blocks = cached_blocks(facts, part, held, "text", tokenizer, 256, None)
    stream = BlockStream(blocks, len(blocks), 1, shuffle=True)
    for at in range(0, len(stream), 16):
        stream.__getitems__(range(at, min(at + 16, len(stream))))
print(len(stream), most[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory is private")
def test_private_memory_does_not_grow_with_the_text(tokenizer, tmp_path):
    """Tokenising and reading 4 MB takes hardly more than half a MB does (benchmarks/train.py has 200 MB)."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    line = "\n".join(sentences(500)) + "\n"
    peaks = []
    for times in (15, 120):
        path = tmp_path / f"{times}.txt"
        path.write_text("".join(f"{turn} {line}" for turn in range(times)), encoding="utf-8")
        environment = {
            "HF_DATASETS_CACHE": str(tmp_path / f"cache{times}"),
            "PATH": "",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-c", READ_ALL, str(tmp_path / "tokenizer"), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        blocks, peak = map(int, done.stdout.split())
        assert blocks > 5
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 16_000, peaks
