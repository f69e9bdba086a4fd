"""The data rules of appendix B, and what is refused of the user's own rows."""

import collections
import json

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.rows import benchmark_rows, labelled, read_table
from taxlt_mergekit.train.rows import load_corpus, near_duplicates, normalise
from tests.helpers.evaluation import write_table
from tests.helpers.training import own_rows, smsa_and_nusax


def write_lines(path, lines) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_rows_of_smsa_that_are_in_nusax_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path))
    copied, others = smsa_and_nusax(tmp_path)
    corpus = load_corpus(own_rows(task="smsa"))
    assert corpus.labels == ("negative", "neutral", "positive")
    found = [[row["text"], corpus.labels[row["label"]]] for row in corpus.train]
    assert sorted(found) == sorted(others)
    assert corpus.notes[0] == (
        f"SMSA, train: {len(copied)} of 60 rows are in NusaX, as they are or modified, and were left out "
        f"(appendix B); {len(others)} kept"
    )


@pytest.mark.real_data
def test_smsa_without_nusax_agrees_with_the_list_made_by_hand(real_data, monkeypatch):
    monkeypatch.setenv("TAXLT_DATA", str(real_data))
    corpus = load_corpus(own_rows(task="smsa"))
    reference = read_table(real_data / "smsa/train_nonusax.tsv", ["text", "label"], header=False)
    others = collections.Counter((row["text"], row["label"]) for row in reference)
    ours = collections.Counter((row["text"], corpus.labels[row["label"]]) for row in corpus.train)
    everything = collections.Counter(
        (row["text"], row["label"])
        for row in read_table(real_data / "smsa/train.tsv", ["text", "label"], header=False)
    )
    dropped, dropped_by_others = everything - ours, everything - others
    assert everything.total() == 11000
    assert not ours - everything, "labels and texts are those of the file"
    assert 940 <= dropped.total() <= 990  # "about 950 of 11,000"
    assert (dropped & dropped_by_others).total() >= 0.98 * dropped_by_others.total()
    assert f"{dropped.total()} of 11000 rows are in NusaX" in corpus.notes[0]
    left = {normalise(text) for part in (corpus.train, corpus.validation) for text in part["text"]}
    for split in ("train", "validation", "test"):
        assert not left & {normalise(text) for text in benchmark_rows("nusax", "ind", split)["text"]}


def test_near_duplicates_on_real_pairs():
    nusax = [
        "Kang, jalan di muara bulian baru, baru sebulanan dibenarkan, sudah rusak lagi.",
        "Sate kambing dan gulai kambingnya maknyus, penyajian makanannya juga sangat cepat.",
        "Bebeknya enak, lembut, sambelnya enak. Tempat bersih dan lumayan oke.",
        "Jawabannya tidak memuaskan. Ingin marah-marah sama itu pelayanan pelanggan.",
    ]
    smsa = {
        "kang , jalan di muararajeun baru , baru sebulanan dibenarkan , sudah rusak lagi .": True,
        "sate kambing dan gulai kambing nya maknyus , penyajian makannan nya juga sangat cepat .": True,
        # An excerpt was taken of this one.
        "bebek nya enak , lembut , sambel nya enak . tapi minuman nya terrible . saya order es jeruk , "
        "berharap dapat jeruk alami . pelayanan biasa saja , tempat bersih dan lumayan oke .": True,
        # These share words with a row, and no more.
        "tidak memuaskan": False,
        "jalan di sini sudah rusak sejak lama": False,
        "": False,
    }
    assert near_duplicates(list(smsa), nusax).tolist() == list(smsa.values())


@given(st.lists(st.text("abcdefgh ", max_size=30), max_size=20), st.lists(st.text("abcdefgh ", max_size=30)))
@settings(max_examples=80, deadline=None)
def test_near_duplicates_are_the_definition(texts, references):
    def shingles(text):
        text = normalise(text)
        return {text[at : at + 5] for at in range(len(text) - 4)}

    def copied(text):
        for reference in references:
            one, two = shingles(text), shingles(reference)
            shared = len(one & two)
            if normalise(text) == normalise(reference):
                return True
            if shared and (2 * shared >= 0.5 * (len(one) + len(two)) or shared >= 0.65 * len(two)):
                return True
        return False

    assert near_duplicates(texts, references).tolist() == [copied(text) for text in texts]


def test_marc_is_binarised(tmp_path, monkeypatch):
    """No free copy of MARC exists, so these rows are made up; their form is the published one."""
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path))
    (tmp_path / "marc").mkdir()
    for part in ("train", "dev"):
        reviews = [
            json.dumps({"review_title": f"title {stars}", "review_body": "body", "stars": str(stars)})
            for stars in (1, 2, 3, 4, 5)
        ]
        write_lines(tmp_path / f"marc/dataset_en_{part}.json", reviews)
    corpus = load_corpus(own_rows(task="marc"))
    assert corpus.columns == ("title", "body")
    assert [(row["title"], corpus.labels[row["label"]]) for row in corpus.train] == [
        ("title 1", "negative"),
        ("title 2", "negative"),
        ("title 4", "positive"),
        ("title 5", "positive"),
    ]


def test_multinli_as_published(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path))
    (tmp_path / "multinli").mkdir()
    rows = [
        {"sentence1": "p", "sentence2": str(at), "gold_label": label, "genre": "x"}
        for at, label in enumerate(["neutral", "contradiction", "-", "entailment"])
    ]
    for name in ("train", "dev_matched"):
        write_lines(tmp_path / f"multinli/multinli_1.0_{name}.jsonl", map(json.dumps, rows))
    corpus = load_corpus(own_rows(task="multinli"))
    assert [corpus.labels[row["label"]] for row in corpus.train] == ["neutral", "contradiction", "entailment"]
    assert corpus.train["hypothesis"][1] == "1"
    assert "MultiNLI, train: 1 pairs without a gold label left out" in corpus.notes


def test_labels_are_matched_by_name(tmp_path):
    """XNLI's files and ours count and order their labels differently; names decide."""
    labels = ["neutral", "contradiction", "entailment", "Neutral"]
    rows = [[f"premise {at}", f"hypothesis {at}", label] for at, label in enumerate(labels)]
    write_table(tmp_path / "dev-en.tsv", [["premise", "hypothesis", "label"], *rows])
    xnli = str(tmp_path / "dev-en.tsv")
    corpus = load_corpus(own_rows(task="multinli", train=xnli, validation=xnli))
    assert corpus.labels == ("entailment", "neutral", "contradiction")
    assert [corpus.labels[row["label"]] for row in corpus.train] == [label.lower() for label in labels]
    assert list(corpus.train["hypothesis"]) == [row[1] for row in rows]


def test_rows_of_the_hub_are_those_of_the_files(small_cache, tmp_path, monkeypatch):
    """The hub itself is out of reach of a test; this stands in for what `load_dataset` gives."""
    nli = catalog.load().benchmarks["xnli"]
    kinds = [("neutral", "p", "h"), ("-", "p", "no gold label"), ("entailment", "p", "h2")]

    def load_dataset(path, split, **options):
        assert (path, split) in {("nyu-mll/multi_nli", "train"), ("nyu-mll/multi_nli", "validation_matched")}
        rows = [{"premise": p, "hypothesis": h, "label": label} for label, p, h in kinds if label != "-"]
        found = labelled(rows, nli.inputs, nli.labels[::-1], "hub")
        return found.add_item({"premise": "p", "hypothesis": "no gold label", "label": -1})

    (tmp_path / "multinli").mkdir()
    lines = [json.dumps({"sentence1": p, "sentence2": h, "gold_label": label}) for label, p, h in kinds]
    for name in ("train", "dev_matched"):
        write_lines(tmp_path / f"multinli/multinli_1.0_{name}.jsonl", lines)
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path))
    files = load_corpus(own_rows(task="multinli"))
    monkeypatch.delenv("TAXLT_DATA")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = load_corpus(own_rows(task="multinli"))
    assert hub.train.to_list() == files.train.to_list()
    assert (
        hub.notes
        == files.notes
        == [f"MultiNLI, {part}: 1 pairs without a gold label left out" for part in ("train", "validation")]
    )


def test_own_rows_with_names_or_numbers_for_labels(tmp_path):
    table = write_lines(tmp_path / "a.csv", ["label,review", "10,x", "9,y", "100,z"])
    corpus = load_corpus(own_rows(train=table, validation=table, columns=["review"]))
    assert corpus.labels == ("9", "10", "100")
    assert list(corpus.train["label"]) == [1, 0, 2]
    rows = [json.dumps({"text": "t", "sentiment": label}) for label in ("NEG", "POS", "neg")]
    lines = write_lines(tmp_path / "b.jsonl", rows)
    settings = own_rows(
        train=lines, validation=lines, columns=["text"], label="sentiment", labels=["POS", "NEG"]
    )
    corpus = load_corpus(settings)
    assert corpus.labels == ("POS", "NEG")
    assert list(corpus.train["label"]) == [1, 0, 1]


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (["label\ttext", "a\tx", "b\ty"], {"columns": ["review"]}, "no column 'review'; its columns"),
        (["label\ttext", "a\tx", "b\ty"], {"label": "gold"}, "no column 'gold'"),
        (["label\ttext", "a\tx", "a\ty"], {}, "labels must be two or more different names, not a"),
        (["label\ttext", "a\t ", "b\ty"], {}, "row 1: column 'text' has no text"),
        (["label\ttext"], {}, "has no rows"),
        (["label\ttext", "a\tx\tx"], {}, "line 2: 3 fields where 2 are due"),
        (
            ["label\ttext", *(f"{label}\tx" for label in ["a", "c", "b", "d", "d", "d"])],
            {"labels": ["a", "b"]},
            "4 of 6 rows have a label that is none of a, b: row 2 'c', row 4 'd', row 5 'd'…",
        ),
        (["label\ttext", "maybe\tx"], {"task": "smsa"}, "none of negative, neutral, positive: row 1 'maybe'"),
    ],
)  # fmt: skip
def test_own_rows_that_are_refused(lines, changes, message, tmp_path):
    table = write_lines(tmp_path / "a.tsv", lines)
    settings = own_rows(**{"train": table, "validation": table, "columns": ["text"], **changes})
    with pytest.raises(UserError) as error:
        load_corpus(settings)
    assert message in str(error.value)
    assert "a.tsv" in str(error.value)


def test_labels_of_validation_that_training_has_not(tmp_path):
    train = write_lines(tmp_path / "train.tsv", ["label\ttext", "a\tx", "b\ty"])
    validation = write_lines(tmp_path / "validation.tsv", ["label\ttext", "a\tx", "z\ty"])
    with pytest.raises(
        UserError, match=r"validation.tsv: 1 of 2 rows have a label that is none of a, b: row 2 'z'"
    ):
        load_corpus(own_rows(train=train, validation=validation, columns=["text"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "--task is missing"),
        ({"train": "a.tsv"}, "--train needs --validation FILE"),
        ({"train": "a.tsv", "validation": "a.tsv"}, "--columns: name the column"),
        ({"train": "a.tsv", "validation": "a.tsv", "columns": ["x"]}, "a.tsv: no such file"),
        ({"task": "smsa", "labels": ["a", "b"]}, "go with --train FILE"),
        ({"task": "marc"}, "MARC"),
    ],
)
def test_what_is_missing_is_named(changes, message, monkeypatch, tmp_path):
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path))
    with pytest.raises(UserError, match=message):
        load_corpus(own_rows(**changes))


def test_rows_of_other_kinds_of_files(tmp_path):
    path = write_lines(tmp_path / "a.parquet", ["x"])
    with pytest.raises(UserError, match=r"rows are read from .csv, .tsv .* and .jsonl files"):
        load_corpus(own_rows(train=path, validation=path, columns=["text"]))
