"""How hf-seq-cls finds what to read and which label a choice stands for."""

from types import SimpleNamespace

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.evaluate.classifier import named_labels
from taxlt_mergekit.evaluate.labels import choice_labels, has_no_names, input_columns, match_labels

NLI = ["entailment", "neutral", "contradiction"]
NUMBERS = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


@given(st.permutations(NLI), st.sampled_from([str, str.upper, str.title, lambda name: f" {name} "]))
def test_labels_are_matched_by_name_in_any_order_and_case(order, spelling):
    id2label = {column: spelling(name) for column, name in enumerate(order)}
    assert [order[column] for column in match_labels(id2label, NLI, "t")] == NLI


def test_common_synonyms():
    assert match_labels({0: "POS", 1: "Neu", 2: "NEG"}, ["negative", "neutral", "positive"], "t") == [2, 1, 0]
    assert match_labels({0: "not entailment", 1: "Entailment"}, ["entailment", "not_entailment"], "t") == [
        1,
        0,
    ]


def test_placeholders_keep_their_order_only_where_they_number_their_own_columns():
    assert match_labels(NUMBERS, NLI, "t") == [0, 1, 2]
    assert has_no_names({0: "0", 1: "1"})
    assert not has_no_names({0: "LABEL_1", 1: "LABEL_0"})
    assert not has_no_names({0: "LABEL_0", 1: "positive"})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["neg", "pos"], r"t: the head has 2 labels \(neg, pos\), the task 3"),
        (["sport", "politics", "arts"], r"t: the head's labels \(sport, politics, arts\) are not the task's"),
        (["entailment", "entails", "neutral"], "are not the task's"),
        (["LABEL_2", "LABEL_1", "LABEL_0"], "are not the task's"),
    ],
)
def test_other_heads_are_refused(labels, message):
    with pytest.raises(UserError, match=message):
        match_labels(dict(enumerate(labels)), NLI, "t")


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        (["premise", "hypothesis", "label"], ("premise", "hypothesis")),
        (["idx", "sentence2", "sentence1", "label"], ("sentence1", "sentence2")),
        (["title", "body", "label"], ("title", "body")),
        (["text", "label", "language"], ("text",)),
        (["sentence", "label"], ("sentence",)),
        (["question", "sentence", "label"], ("question", "sentence")),
    ],
)
def test_the_usual_columns_are_read_pairs_as_pairs(columns, read):
    assert input_columns(dict.fromkeys(columns, "x"), "t") == read


@pytest.mark.parametrize(
    "columns", [["passage", "question"], ["premise"], ["text", "premise", "hypothesis"], ["a"]]
)
def test_other_columns_are_refused_rather_than_half_read(columns):
    with pytest.raises(UserError, match=r"t: hf-seq-cls can't tell what to read from the columns"):
        input_columns(dict.fromkeys(columns, "x"), "t")


def test_choices_stand_for_the_data_sets_labels_before_their_own_words():
    pair = {"premise": "a", "hypothesis": "b", "label": 0}
    answers = ["True", "Neither", "False"]
    assert choice_labels(answers, NLI[::-1], pair, NUMBERS, "t") == (NLI[::-1], False)
    assert choice_labels(answers, None, pair, NUMBERS, "t") == (NLI, False)
    # The data set names other labels than the choices are of.
    assert choice_labels(answers, ["yes", "no"], pair, NUMBERS, "t") == (NLI, False)
    assert choice_labels(["b? Yes", "b? Also", "b? No"], None, pair, NUMBERS, "t") == (tuple(NLI), True)
    texts = {"text": "a", "label": 0}
    head = {0: "POS", 1: "NEG"}
    assert choice_labels(["negative", "positive"], None, texts, head, "t") == (
        ["negative", "positive"],
        False,
    )
    with pytest.raises(UserError, match=r"t: hf-seq-cls can't tell which label each choice stands for"):
        choice_labels(["good", "bad"], None, texts, head, "t")


def test_a_data_set_names_the_choices_only_where_its_labels_are_the_target():
    reverse = datasets.Features({"label": datasets.ClassLabel(names=NLI[::-1])})

    def names(target, features):
        config, documents = SimpleNamespace(doc_to_target=target), SimpleNamespace(features=features)
        return named_labels(SimpleNamespace(config=config, task_docs=documents))

    assert names("label", reverse) == NLI[::-1]
    # The target is computed, so the column's order says nothing of the choices'.
    assert names(len, reverse) is None
    assert names("label", {"label": datasets.Value("int64")}) is None
    assert names("label", None) is None
