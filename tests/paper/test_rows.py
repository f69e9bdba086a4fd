"""Rows of the benchmarks: every layout of TAXLT_DATA, labels by name, and the errors that users see."""

import csv
import json
from collections import Counter

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.files import read_table
from taxlt_mergekit.paper.rows import benchmark_rows, hub_rows, labelled
from tests.helpers.evaluation import write_table

NLI = ["entailment", "neutral", "contradiction"]
NLI_INPUTS = ["premise", "hypothesis"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path))
    return tmp_path


def nli_table(label="neutral", premise="a", hypothesis="b"):
    return [
        ["id", "language", "premise", "hypothesis", "label"],
        ["1", "quy", premise, hypothesis, label],
        ["2", "quy", "c", "d", "contradiction"],
    ]


def test_americas_nli_keeps_quotes_as_they_are(folder):
    write_table(folder / "americasnli/test/quy.tsv", nli_table(premise='"half', hypothesis='it\'s "so"'))
    rows = benchmark_rows("americas_nli", "quy", "test")
    assert rows.column_names == ["premise", "hypothesis", "label"]
    assert rows[0] == {"premise": '"half', "hypothesis": 'it\'s "so"', "label": 1}
    assert rows.features["label"].names == NLI


def test_nusax_reads_csv_and_the_repositorys_folder_names(folder):
    write_table(
        folder / "nusax/toba_batak/valid.csv", [["id", "text", "label"], ["7", 'x, "y"\nz', "positive"]]
    )
    rows = benchmark_rows("nusax", "bbc", "validation")
    assert rows[0] == {"text": 'x, "y"\nz', "label": 2}
    assert rows.features["label"].names == ["negative", "neutral", "positive"]


def test_published_xnli_is_one_file_for_all_languages(folder):
    header = ["language", "gold_label", "sentence1_binary_parse", "sentence1", "sentence2", "promptID"]
    rows = [["fr", "entailment", "", "un", "deux", "1"], ["de", "neutral", "", "eins", '"zwei', "1"]]
    write_table(folder / "xnli/xnli.test.tsv", [header, *rows])
    assert benchmark_rows("xnli", "de", "test")[0] == {"premise": "eins", "hypothesis": '"zwei', "label": 1}
    assert benchmark_rows("xnli", "fr", "test")[0]["label"] == 0
    with pytest.raises(UserError, match=r"xnli\.test\.tsv has no rows"):
        benchmark_rows("xnli", "sw", "test")


def test_xnli_of_one_language_goes_before_the_published_file(folder):
    write_table(folder / "xnli/xnli.dev.tsv", [["language", "gold_label", "sentence1", "sentence2"]])
    write_table(folder / "xnli/dev-es.tsv", [["premise", "hypothesis", "label"], ["a", "b", "entailment"]])
    assert benchmark_rows("xnli", "es", "validation")[0] == {"premise": "a", "hypothesis": "b", "label": 0}


@pytest.mark.parametrize("name", ["marc/dataset_de_dev.json", "marc/dev/dataset_de_dev.json"])
def test_marc_drops_three_stars_and_keeps_title_and_body(folder, name):
    reviews = [
        {"stars": stars, "review_title": f"t{stars}", "review_body": f"b{stars}", "language": "de", "x": 1}
        for stars in ["1", 2, "3", 3, "4", 5]
    ]
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(review) + "\n" for review in reviews))
    rows = benchmark_rows("marc", "de", "validation")
    assert rows["title"] == ["t1", "t2", "t4", "t5"]
    assert rows["body"] == ["b1", "b2", "b4", "b5"]
    assert [rows.features["label"].int2str(label) for label in rows["label"]] == 2 * ["negative"] + 2 * [
        "positive"
    ]


def refusal(benchmark, language, split="test"):
    with pytest.raises(UserError) as caught:
        benchmark_rows(benchmark, language, split)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_refusals_name_the_file_and_what_would_be_right(folder, monkeypatch):
    path = folder / "americasnli/test/quy.tsv"
    assert "Quechua, test" in refusal("americas_nli", "quy")
    assert f"TAXLT_DATA={folder} has no americasnli/test/quy.tsv" in refusal("americas_nli", "quy")
    write_table(path, nli_table(label="maybe"))
    assert refusal("americas_nli", "quy") == (
        f"{path}, row 1: label 'maybe'; it must be one of entailment, neutral, contradiction"
    )
    write_table(path, [*nli_table(), ["3", "quy", "only three"]])
    assert refusal("americas_nli", "quy") == f"{path}, line 4: 3 fields where 5 are due"
    write_table(path, [["premise", "label"], ["a", "neutral"]])
    assert (
        refusal("americas_nli", "quy") == f"{path} has no column 'hypothesis'; its columns are premise, label"
    )
    write_table(path, nli_table()[:1])
    assert refusal("americas_nli", "quy") == f"{path} has no rows"
    path.write_bytes(b"id\tlanguage\tpremise\thypothesis\tlabel\n1\tquy\t\xff\tb\tneutral\n")
    assert refusal("americas_nli", "quy").startswith(f"{path}, line 2: byte 7 (0xff) is not UTF-8")

    reviews = folder / "marc/dataset_de_test.json"
    reviews.parent.mkdir()
    reviews.write_text('{"stars": 1, "review_title": "t"}\n')
    assert refusal("marc", "de") == (
        f"{reviews}, line 1: no field 'review_body'; its fields are stars, review_title"
    )
    reviews.write_text("[1, 2]\n")
    assert refusal("marc", "de").startswith(f"{reviews}, line 1: not a JSON object with the fields review_t")
    reviews.write_text('{"stars": 6, "review_title": "t", "review_body": "b"}\n')
    assert refusal("marc", "de") == f"{reviews}, review 1: stars are 1 to 5, not '6'"

    monkeypatch.setenv("TAXLT_DATA", str(folder / "nowhere"))
    assert "is not a directory" in refusal("marc", "de")
    monkeypatch.delenv("TAXLT_DATA")
    assert "set TAXLT_DATA=DIR, with marc/dataset_de_test.json" in refusal("marc", "de")


def test_rows_of_the_hub_are_those_of_the_files_whatever_its_label_order(folder, monkeypatch):
    """The hub itself is out of reach of a test; this stands in for what `load_dataset` gives."""
    calls = []

    def load_dataset(path, split, **options):
        calls.append((path, split, options))
        if path == "csv":
            return datasets.Dataset.from_dict({"id": [1], "text": ["x"], "label": ["positive"]})
        return labelled(
            [{"premise": "a", "hypothesis": "b", "label": "neutral"}], NLI_INPUTS, NLI[::-1], "hub"
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    write_table(folder / "americasnli/test/quy.tsv", [nli_table()[0], nli_table()[1]])
    write_table(folder / "nusax/acehnese/test.csv", [["id", "text", "label"], ["1", "x", "positive"]])
    keys = [("americas_nli", "quy"), ("nusax", "ace")]
    files = [benchmark_rows(*key, "test") for key in keys]
    monkeypatch.delenv("TAXLT_DATA")
    hub = [benchmark_rows(*key, "test") for key in keys]
    assert [rows.features for rows in hub] == [rows.features for rows in files]
    assert [rows.to_list() for rows in hub] == [rows.to_list() for rows in files]
    assert calls[0] == ("nala-cub/americas_nli", "test", {"name": "quy"})
    assert calls[1][2]["data_files"]["test"].endswith("/datasets/sentiment/acehnese/test.csv")


def test_a_row_of_the_hub_without_a_label_says_so(monkeypatch):
    rows = labelled([{"text": "a", "label": "neutral"}], ["text"], NLI, "hub").add_item(
        {"text": "b", "label": -1}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: rows)
    assert [row["label"] for row in hub_rows("someone/nli", "NLI", split="train")] == ["neutral", "-"]


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def load_dataset(path, **options):
        raise ConnectionError("no\n  network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.delenv("TAXLT_DATA", raising=False)
    assert refusal("xnli", "de") == (
        "XNLI, German, test: the hub did not give it: no network (go online, or set TAXLT_DATA=DIR to read "
        "files; layout: docs/evaluate.md)"
    )


@given(st.permutations(NLI), st.lists(st.sampled_from(NLI), min_size=1))
def test_labels_keep_their_names_whatever_their_order(order, names):
    rows = labelled([{"text": "x", "label": name} for name in names], ["text"], order, "memory")
    assert [rows.features["label"].int2str(label) for label in rows["label"]] == names


# What a line of TSV can't hold: the separators, and what the csv module takes for a line's end.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), min_size=1)


@given(st.lists(st.tuples(texts, texts), min_size=1))
def test_tsv_gives_every_text_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tsv") / "x.tsv"
    write_table(path, [["a", "b"], *rows])
    assert [(row["b"], row["a"]) for row in read_table(path, ["b", "a"])] == [(b, a) for a, b in rows]


@pytest.mark.real_data
def test_real_files_have_the_rows_and_labels_they_are_known_for(real_data, monkeypatch):
    monkeypatch.setenv("TAXLT_DATA", str(real_data))
    sizes = dict.fromkeys(catalog.load().benchmarks["americas_nli"].languages, 743)
    sizes |= {"cni": 658, "nah": 585, "oto": 222}
    assert {code: len(benchmark_rows("americas_nli", code, "validation")) for code in sizes} == sizes
    for code in ("quy", "aym", "gn"):
        labels = benchmark_rows("americas_nli", code, "test")["label"]
        assert Counter(labels) == {0: 250, 1: 250, 2: 250}
    with (real_data / "nusax/javanese/test.csv").open(encoding="utf-8", newline="") as file:
        expected = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    rows = benchmark_rows("nusax", "jav", "test")
    assert [(row["text"], rows.features["label"].int2str(row["label"])) for row in rows] == expected
