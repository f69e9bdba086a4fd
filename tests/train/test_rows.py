"""The data rules of appendix B, and what is refused of the user's own rows."""

import collections
import json

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.files import read_table
from taxlt_mergekit.paper.rows import benchmark_rows, labelled
from taxlt_mergekit.train.rows import load_corpus, near_duplicates, normalise
from tests.helpers.evaluation import write_table
from tests.helpers.training import own_rows, smsa_and_nusax, train


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


def own_file(path, labels, texts="ka lu mi") -> str:
    """Rows with these labels, as the file's name ends: a column of a table, or values of JSON."""
    if path.suffix == ".jsonl":
        return write_lines(path, [json.dumps({"label": label, "text": texts}) for label in labels])
    mark = "," if path.suffix == ".csv" else "\t"
    return write_lines(path, [f"label{mark}text", *(f"{label}{mark}{texts}" for label in labels)])


def own_corpus(train, validation=None, **changes):
    return load_corpus(own_rows(train=train, validation=validation or train, columns=["text"], **changes))


MISSING = ["", " ", "-", "nan", "NaN", "null", "None", "N/A", "<NA>", "#N/A"]


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize(
    ("name", "label", "shown"),
    [
        *(("a.csv", label, label.strip()) for label in MISSING),
        *(("a.tsv", label, label.strip()) for label in MISSING),
        *(("a.jsonl", label, label.strip()) for label in MISSING),
        ("a.jsonl", None, ""),
        ("a.jsonl", float("nan"), "nan"),
    ],
)
def test_a_missing_label_is_not_a_class(name, label, shown, part, tmp_path):
    whole = own_file(tmp_path / "whole.tsv", ["a", "b"] * 9)
    gap = own_file(tmp_path / name, ["a", "b", "b", label, "a"])
    files = {"train": (gap, whole), "validation": (whole, gap)}[part]
    for changes in ({}, {"labels": ["a", "b"]}):
        with pytest.raises(UserError) as error:
            own_corpus(*files, **changes)
        assert error.value.message == (
            f"{gap}: 1 of 5 rows have no label: row 4 {shown!r}; leave these rows out, or name all labels "
            "with --labels if it is one"
        )


def test_what_the_user_calls_a_label_is_one(tmp_path):
    """Stances are favour, against and none; grades may be -1."""
    file = own_file(tmp_path / "a.jsonl", ["favour", "NONE", "against"] * 4)
    corpus = own_corpus(file, labels=["none", "favour", "against"])
    assert list(corpus.train["label"][:3]) == [1, 0, 2]
    assert not corpus.warnings
    file = own_file(tmp_path / "b.jsonl", [-1, 0, 1, 2] * 4)
    with pytest.raises(
        UserError, match=r"b.jsonl: 4 of 16 rows have no label: row 1 '-1', row 5 '-1', row 9"
    ):
        own_corpus(file)
    assert own_corpus(file, labels=["-1", "0", "1", "2"]).labels == ("-1", "0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([1, 1.0, "1", "1.0", 0, 0.0], ("0", "1")),  # a gap in a column makes pandas write 1.0 for 1
        ([" a", "a ", "b", "\ta\u00a0"], ("a", "b")),
        ([True, False], ("False", "True")),
        ([0.5, 1.5, 10], ("0.5", "1.5", "10")),
    ],
)
def test_labels_that_are_written_in_two_ways_are_one(labels, found, tmp_path):
    assert own_corpus(own_file(tmp_path / "a.jsonl", labels)).labels == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pos", "Pos"),
        ("01", "1"),
        ("neg", "ne\u200bg"),
        ("a b", "a  b"),
        ("caf\u00e9", "cafe\u0301"),
        ("1", "+1"),
    ],
)
def test_labels_that_read_alike_are_refused(one, other, tmp_path):
    file = own_file(tmp_path / "a.jsonl", [one, other, "else"] * 3)
    with pytest.raises(UserError, match="read alike and would be two classes; write them alike") as error:
        own_corpus(file)
    assert repr(one) in error.value.message and repr(other) in error.value.message
    with pytest.raises(UserError, match="read alike"):
        own_corpus(file, labels=[one, other, "else"])


def test_what_may_be_a_mistake_is_said(small_xlmr, tmp_path):
    train_file = own_file(tmp_path / "train.csv", ["a", "b"] * 5 + ["c", "7"])
    validation = own_file(tmp_path / "validation.csv", ["a", "b"] * 4)
    warnings = own_corpus(train_file, validation).warnings
    assert warnings == [
        f"{train_file}: labels with few rows: '7' has 1, 'c' has 1",
        f"{validation}: no row has the label '7', 'c'",
        f"{train_file}: some labels are numbers (7), others names (a, b, c)",
    ]
    arguments = ("--train", train_file, "--validation", validation, "--columns", "text", "--max-steps", 1)
    done = train(small_xlmr, *arguments, "--output", tmp_path / "out", kind="task")
    assert done.code == 0, done
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for warning in warnings:
        assert f"warning        {warning}" in done.stdout and warning in card
    grades = own_corpus(own_file(tmp_path / "grades.csv", [-1, 0, 1] * 3))
    assert grades.warnings == [
        f"{tmp_path / 'grades.csv'}: -1 is taken for a label; data sets of the hub mean none by it"
    ]
    named = own_corpus(train_file, validation, labels=["a", "b", "c", "7", "d"])
    assert named.warnings[0].endswith("labels with few rows: 'c' has 1, '7' has 1, 'd' has 0")
    assert not own_corpus(own_file(tmp_path / "plain.csv", ["a", "b"] * 3)).warnings


def test_a_label_that_is_many_or_the_text_itself(tmp_path):
    lists = own_file(tmp_path / "a.jsonl", ["a", ["a", "b"]])
    with pytest.raises(
        UserError, match=r"a.jsonl, row 2: column 'label' holds \['a', 'b'\], and not one label"
    ):
        own_corpus(lists)
    file = own_file(tmp_path / "a.csv", ["a", "b"])
    with pytest.raises(UserError, match="--columns text: 'text' is the column of the label"):
        own_corpus(file, label="text")


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=6, max_size=30), st.randoms())
@settings(max_examples=30, deadline=None)
def test_each_row_keeps_its_label(tmp_path_factory, labels, random):
    """In any order of the rows and any kind of file, with or without a list of the labels."""
    labels = [*labels, "a", "b"]
    folder = tmp_path_factory.mktemp("rows")
    names = sorted(set(labels))
    order = random.sample(names, len(names))
    for name in ("a.csv", "a.tsv", "a.jsonl"):
        file = own_file(folder / name, labels)
        for given_labels in (None, order):
            corpus = own_corpus(file, labels=given_labels)
            assert corpus.labels == tuple(given_labels or names)
            assert [corpus.labels[row["label"]] for row in corpus.train] == labels


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
