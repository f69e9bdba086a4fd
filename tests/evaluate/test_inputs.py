"""What a model is given: scores are those of one document at a time, whatever shares a batch with it."""

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
from taxlt_mergekit.evaluate.padding import Padding, padding_token
from tests.helpers.evaluation import (
    KINDS,
    SENTIMENT_LABELS,
    head_scores,
    make_kind,
    make_tokenizer,
    plain_scores,
)

DRAW = random.Random(0)
TEXTS = ["".join(DRAW.choices("abcdefghij  ", k=DRAW.randint(3, 45))) for _ in range(24)]
CLOSE = {"atol": 1e-5, "rtol": 0}


def change(file, **values):
    """Set keys of a JSON file; None removes one."""
    content = json.loads(file.read_text())
    for key, value in values.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    file.write_text(json.dumps(content))


def alone(folder, texts=TEXTS):
    """transformers' own log-probabilities, one document at a time."""
    return plain_scores(folder, [[text] if isinstance(text, str) else text for text in texts])[0]


# What the user is told where padding as the tokenizer does it would change scores.
SAID = {
    ("fnet", "right"): "only documents of equal length share a batch",
    ("canine", "right"): "only documents of equal length share a batch",
    ("mobilebert", "right"): "only documents of equal length share a batch",
    ("xlnet", "right"): "padding on the right changes its scores; it goes on the left",
    ("bert", "left"): "padding on the left changes its scores; it goes on the right",
    ("roberta", "right"): None,
    ("llama", "right"): None,
    ("llama", "left"): None,
}


@pytest.mark.parametrize(("kind", "side"), SAID)
def test_scores_do_not_depend_on_the_batch(tmp_path, caplog, kind, side):
    folder = make_kind(tmp_path, kind, padding_side=side)
    right = alone(folder)
    assert right.std(0).min() > 1e-3  # scores that were all the same would agree with anything
    for size in (1, 3, 24, "auto"):
        caplog.clear()
        torch.testing.assert_close(head_scores(folder, TEXTS, batch_size=size), right, **CLOSE)
        told = [record.message for record in caplog.records]
        said = [text for text in told if "batch" in text or "goes on" in text]
        assert len(said) == (size != 1 and SAID[kind, side] is not None)
        assert all(text.endswith(SAID[kind, side]) for text in said)


def test_every_kind_is_tried():
    assert {kind for kind, _ in SAID} == set(KINDS)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (5, "padding is token 5 by its config.json, 0 by its tokenizer; 5 is used"),
        (-1, "padding is token -1 by its config.json, 0 by its tokenizer; 0 is used"),
        (None, None),
    ],
)
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_where_config_and_tokenizer_disagree_about_padding_the_config_counts(
    tmp_path, caplog, kind, stated, told
):
    """Decoders read their score off the last token that is not the config's padding token."""
    folder = make_kind(tmp_path, kind)
    change(folder / "config.json", pad_token_id=stated)
    right = alone(folder)
    caplog.clear()
    torch.testing.assert_close(head_scores(folder, TEXTS, batch_size=8), right, **CLOSE)
    said = [record.message for record in caplog.records if "padding" in record.message]
    assert len(said) == (told is not None)
    assert told is None or told in said[0]


def test_a_model_without_any_padding_token_scores_one_at_a_time(tmp_path, caplog):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = make_kind(tmp_path, "llama", vocab_size=300, pad_token_id=None)
    words = Tokenizer(models.WordLevel({text: number for number, text in enumerate(TEXTS)}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    change(folder / "config.json", pad_token_id=None, vocab_size=300)
    more = {str(number): 24 + number for number in range(276)}
    words = Tokenizer(models.WordLevel({text: n for n, text in enumerate(TEXTS)} | more, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)  # no padding, no end, no unknown
    torch.testing.assert_close(head_scores(folder, TEXTS, batch_size=8), alone(folder), **CLOSE)
    assert "has no padding token, so documents are scored one at a time" in caplog.text


def test_a_tokenizer_that_gives_no_attention_mask(tmp_path):
    folder = make_kind(tmp_path, "bert")
    right = alone(folder)
    change(folder / "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids"])
    torch.testing.assert_close(head_scores(folder, TEXTS, batch_size=8), right, **CLOSE)


def test_segments_that_a_model_does_not_know_are_its_first(tmp_path, caplog):
    folder = make_kind(tmp_path, "roberta")
    columns = ["input_ids", "token_type_ids", "attention_mask"]
    change(folder / "tokenizer_config.json", model_input_names=columns)
    pairs = [(text[:20], text[20:0:-1]) for text in TEXTS[:6]]
    with pytest.raises(IndexError):
        alone(folder, pairs)
    scores = head_scores(folder, pairs)
    assert "its tokenizer numbers the texts of a pair 0 to 1, the model knows 1 of them" in caplog.text
    change(folder / "tokenizer_config.json", model_input_names=columns[::2])
    torch.testing.assert_close(scores, alone(folder, pairs), **CLOSE)


@pytest.mark.parametrize(
    ("kind", "settings", "asked", "longest"),
    [
        ("roberta", {"pad_token_id": 1}, 512, 64),  # of 66 positions the first two are not for tokens
        ("roberta", {}, 66, 65),
        ("bert", {"max_position_embeddings": 50}, 51, 50),
        ("bert", {"max_position_embeddings": 50}, 20, 20),
        ("llama", {"max_position_embeddings": 50}, 80, 80),  # positions are computed
        ("llama", {"max_position_embeddings": 50}, None, 50),
        ("xlnet", {}, None, 10**30),
    ],
)
def test_documents_are_truncated_to_what_the_positions_hold(tmp_path, caplog, kind, settings, asked, longest):
    folder = make_kind(tmp_path, kind, **settings)
    long = ["abcdefghij" * 30, "abc", "a cat"]
    options = {} if asked is None else {"max_length": asked}
    model = SequenceClassifierLM(pretrained=str(folder), device="cpu", **options)
    assert model.max_length == longest
    assert (f"max_length={asked}, but its positions hold {longest} tokens" in caplog.text) == (
        asked is not None and asked > longest
    )
    right, _ = plain_scores(folder, [[text] for text in long], max_length=min(longest, 10_000))
    torch.testing.assert_close(head_scores(folder, long, batch_size=2, **options), right, **CLOSE)
    if longest < 120:
        assert f"1 of 3 documents are longer than {longest} tokens and were truncated" in caplog.text


def test_another_models_tokenizer_is_told_of_and_its_tokens_refused(tmp_path, caplog):
    folder = make_kind(tmp_path, "bert", vocab_size=len(make_tokenizer()) - 20)
    assert head_scores(folder, ["abc"]).shape == (1, 3)
    size = len(make_tokenizer())
    assert f"its tokenizer has {size} tokens, the model embeddings for {size - 20}" in caplog.text
    beyond = make_tokenizer().decode([size - 1])
    with pytest.raises(UserError, match=rf"gives token {size - 1} .* it is another model's tokenizer"):
        head_scores(folder, [beyond])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"id2label": {"0": "NEG", "1": "POS"}, "label2id": None},
            r"classifier\.bias is 3 in the weights, 2 by config\.json, which has 2 labels in id2label",
        ),
        ({"id2label": None, "label2id": None}, "which has 2 labels in id2label"),
        ({"vocab_size": 310}, r"word_embeddings\.weight is 300×32 in the weights, 310×32 by config\.json"),
        (
            {"id2label": {"1": "POS", "2": "NEU", "3": "NEG"}, "label2id": None},
            r"id2label in its config\.json numbers its labels 1, 2, 3, not from 0 to 2",
        ),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(tmp_path, values, message):
    folder = make_kind(tmp_path, "bert")
    change(folder / "config.json", **values)
    with pytest.raises(UserError, match=message) as error:
        SequenceClassifierLM(pretrained=str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_labels_that_contradict_each_other_are_told_of(tmp_path, caplog):
    folder = make_kind(tmp_path, "bert")
    right = head_scores(folder, TEXTS[:3])
    change(folder / "config.json", label2id={"NEG": 0, "NEU": 1, "POS": 2})
    caplog.clear()
    assert torch.equal(head_scores(folder, TEXTS[:3]), right)
    assert "label2id says that NEG is 0, id2label that 0 is POS; id2label counts" in caplog.text


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    folder = make_kind(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="gives NaN for a document of the task"):
        head_scores(folder, TEXTS, labels=SENTIMENT_LABELS)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    side=st.sampled_from(["right", "left"]),
    more=st.integers(0, 3),
)
def test_a_batch_holds_each_row_and_a_mask_of_it(lengths, side, more):
    rows = [{"input_ids": list(range(1, length + 1)), "token_type_ids": [1] * length} for length in lengths]
    batch = Padding(7, 3, side).batch(rows, max(lengths) + more)
    assert {values.shape for values in batch.values()} == {(len(rows), max(lengths) + more)}
    for place, row in enumerate(rows):
        mask = batch["attention_mask"][place].bool()
        assert batch["input_ids"][place][mask].tolist() == row["input_ids"]
        assert set(batch["input_ids"][place][~mask].tolist()) <= {7}
        assert set(batch["token_type_ids"][place][~mask].tolist()) <= {3}
        assert mask[0 if side == "right" else -1]


@given(st.lists(st.integers(1, 4), min_size=1))
def test_who_shares_a_batch(lengths):
    assert Padding(0, 0, "right").together(lengths) == len(lengths)
    assert Padding(None, 0, "right").together(lengths) == 1
    equal = Padding(0, 0, None).together(lengths)
    assert len(set(lengths[:equal])) == 1 and lengths[equal : equal + 1] != lengths[:1]


def test_the_padding_token():
    assert padding_token(1, 0, 10) == 1
    assert padding_token(None, 0, 10) == 0
    assert padding_token(-1, 0, 10) == padding_token(10, 0, 10) == 0
    assert padding_token(10, 0, None) == 10
    assert padding_token(None, 10, 10) is None
