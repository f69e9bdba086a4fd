"""Plain results of lm-eval, made by lm-eval itself, stand in the report's tables."""

import json
import os

import pytest
import yaml

from taxlt_mergekit.cells.lm_eval import documents, is_results_file, read_lm_eval
from taxlt_mergekit.cells.store import Coverage, Documents, Parameters
from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import known_tasks
from tests.helpers.evaluation import SENTIMENT_LABELS, make_classifier, random_rows, write_rows
from tests.helpers.reports import read_table, report

ROWS = 60
LABELS = ("negative", "neutral", "positive")
TASK_MODEL = "vectors/xlm-roberta-base/task/smsa"
MERGED = "merged/jav_plus_tgt"
RECIPE = {
    "merge_method": "xlt_additive",
    "base_model": "FacebookAI/xlm-roberta-base",
    "models": [
        {"model": TASK_MODEL, "parameters": {"role": "task"}},
        {"model": "vectors/xlm-roberta-base/lang/jav", "parameters": {"role": "target", "weight": 0.9}},
    ],
}


def made_up(code, split):
    return random_rows("nusax", ROWS, f"{code} {split}")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, command):
    """A folder in which a user evaluated two classifiers, one of them also on another language and a part."""
    home = tmp_path_factory.mktemp("home")
    for code in ("jav", "sun"):
        for split in ("validation", "test"):
            write_rows(home / "data", "nusax", code, split, made_up(code, split))
    make_classifier(home / TASK_MODEL, SENTIMENT_LABELS, seed=1)
    make_classifier(home / MERGED, SENTIMENT_LABELS, seed=2)
    (home / MERGED / "mergekit_config.yml").write_text(yaml.safe_dump(RECIPE))

    def evaluate(model, tasks, output, *more):
        done = command(
            *("--model", "hf-seq-cls", "--model_args", f"pretrained={model}", "--tasks", tasks),
            *("--output_path", output, "--log_samples", "--device", "cpu", *more),
            cwd=home,
            TAXLT_DATA=home / "data",
        )
        assert done.code == 0, done.stderr

    tasks = "nusax_senti_jav,nusax_senti_dev_jav,nusax_senti_sun"
    evaluate(TASK_MODEL, tasks, "results")
    evaluate(MERGED, tasks, "results")
    evaluate(MERGED, "nusax_senti_jav", "limited", "--limit", "20")
    return home


def cells_of(folder, **options):
    return {
        cell.task: cell
        for path in sorted(folder.rglob("results_*.json"))
        for cell in read_lm_eval(path, **options)
    }


def test_a_task_model_is_model_and_its_labels_are_read(evaluated):
    cells = cells_of(evaluated / "results" / "vectors__xlm-roberta-base__task__smsa")
    assert set(cells) == {"nusax_senti_jav", "nusax_senti_dev_jav", "nusax_senti_sun"}
    cell = cells["nusax_senti_jav"]
    assert (cell.benchmark, cell.language, cell.split, cell.variant) == ("nusax", "jav", "test", "model")
    assert cell.model == "FacebookAI/xlm-roberta-base"
    assert cells["nusax_senti_dev_jav"].split == "dev"
    assert cell.versions.keys() == {"lm_eval", "transformers"}
    labels = [row["label"] for row in made_up("jav", "test")]
    assert list(cell.documents.target) == [LABELS.index(label) for label in labels]
    right = sum(map(int.__eq__, cell.documents.target, cell.documents.prediction))
    assert cell.metrics["acc"] == pytest.approx(right / ROWS)
    assert {"acc", "acc_stderr", "f1_macro", "f1_macro_stderr"} <= cell.metrics.keys()


def test_a_merged_model_is_known_by_its_recipe(evaluated, monkeypatch):
    monkeypatch.chdir(evaluated)
    cells = cells_of(evaluated / "results" / "merged__jav_plus_tgt")
    cell = cells["nusax_senti_jav"]
    assert (cell.variant, cell.model) == ("plus_tgt", "FacebookAI/xlm-roberta-base")
    assert cell.parameters == Parameters(target_weight=0.9)
    # A model for Javanese is not +TGT in Sundanese, whatever its folder is called.
    assert cells["nusax_senti_sun"].variant == "jav_plus_tgt"


def test_the_report_compares_them_with_intervals(evaluated, tmp_path):
    arguments = (
        "--output",
        tmp_path,
        "--resamples",
        "200",
        "--model",
        "xlm-roberta-base",
        "--against",
        "paper",
    )
    text = report(evaluated / "results", *arguments).stdout
    rows = read_table(tmp_path / "scores_nusax_xlm-roberta-base_test.csv")
    assert list(rows) == ["MODEL", "MODEL + TGT", "jav_plus_tgt"]
    for variant, folder in (
        ("MODEL", "vectors__xlm-roberta-base__task__smsa"),
        ("MODEL + TGT", "merged__jav_plus_tgt"),
    ):
        (path,) = (evaluated / "results" / folder).glob("results_*.json")
        score = json.loads(path.read_text())["results"]["nusax_senti_jav"]["f1_macro,none"]
        assert float(rows[variant]["JAV"]) == pytest.approx(100 * score, abs=1e-4)
    assert rows["MODEL + TGT"]["SUN"] == ""
    differences = read_table(tmp_path / "differences_nusax_xlm-roberta-base_test.csv")
    low, high = (float(differences["JAV"][f"MODEL + TGT {end}"]) for end in ("low", "high"))
    assert low < high
    assert "No interval" not in text
    assert "the paper's table 2c" in text


def test_a_label_names_a_model_by_its_path_or_its_results(evaluated, tmp_path):
    for path in (MERGED, evaluated / "results" / "merged__jav_plus_tgt"):
        arguments = ("--output", tmp_path, "--resamples", "100", "--model", "xlm-roberta-base")
        report(evaluated / "results", *arguments, "--label", f"{path}=my merge")
        rows = read_table(tmp_path / "scores_nusax_xlm-roberta-base_test.csv")
        assert list(rows) == ["MODEL", "my merge"]
        assert rows["my merge"]["SUN"] != ""


def test_a_part_of_the_documents_does_not_pass_for_all(evaluated):
    (cell,) = cells_of(evaluated / "limited").values()
    assert cell.is_part and cell.coverage == Coverage(scored=20, total=ROWS)
    assert len(cell.documents.target) == 20
    whole = cells_of(evaluated / "results" / "merged__jav_plus_tgt")["nusax_senti_jav"]
    assert not whole.is_part and whole.coverage == Coverage(scored=ROWS, total=ROWS)


def test_without_samples_there_are_scores_but_no_intervals(evaluated, tmp_path):
    for path in (evaluated / "results").rglob("results_*.json"):
        (tmp_path / path.parent.name).mkdir()
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    text = report(tmp_path, "--model", "xlm-roberta-base").stdout
    assert "No interval for MODEL on jav, sun: labels by document are missing." in text
    assert len(read_table(tmp_path / "report" / "scores_nusax_xlm-roberta-base_test.csv")) == 3


def test_of_two_runs_the_later_counts(evaluated, tmp_path):
    (path,) = (evaluated / "results" / "merged__jav_plus_tgt").glob("results_*.json")
    run_ = json.loads(path.read_text())
    for day, score in (("2031-01-02", 0.625), ("2031-01-01", 0.5)):
        run_["results"]["nusax_senti_jav"]["f1_macro,none"] = score
        (tmp_path / f"results_{day}T00-00-00.000000.json").write_text(json.dumps(run_))
    report(tmp_path, "--model", "xlm-roberta-base")
    rows = read_table(tmp_path / "report" / "scores_nusax_xlm-roberta-base_test.csv")
    assert rows["MODEL + TGT"]["JAV"] == "62.5000"


def copied(evaluated, folder, **changes):
    """The results of a merged model in a folder of their own; `changes` go into them."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (evaluated / "results" / "merged__jav_plus_tgt").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (path,) = folder.glob("results_*.json")
    run_ = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(run_))
    return path, run_


def test_a_later_trial_does_not_take_the_place_of_the_whole(evaluated, tmp_path):
    copied(evaluated, tmp_path)
    (trial,) = (evaluated / "limited").rglob("results_*.json")
    run_ = json.loads(trial.read_text())
    run_["results"]["nusax_senti_jav"]["f1_macro,none"] = 0.125
    (tmp_path / "results_2031-01-01T00-00-00.000000.json").write_text(json.dumps(run_))
    text = report(tmp_path, "--model", "xlm-roberta-base").stdout
    score = read_table(tmp_path / "report" / "scores_nusax_xlm-roberta-base_test.csv")["MODEL + TGT"]["JAV"]
    assert score != "12.5000"
    row = read_table(tmp_path / "report" / "parts.csv")["MODEL + TGT"]
    assert (row["Task"], row["Scored"], row["Score (%)"]) == (
        "nusax_senti_jav",
        "20 of 60 documents",
        "12.5000",
    )
    with (tmp_path / "report" / "scores.csv").open() as file:
        assert "12.5000" not in file.read()
    assert "## Parts of tasks" in text


def test_a_report_of_trials_alone_has_no_means(evaluated, tmp_path):
    text = report(evaluated / "limited", "--output", tmp_path).stdout
    assert "20 of 60 documents" in text and "mean" not in text.replace("mean or choice", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.csv", "report.md", "scores.csv"]


@pytest.mark.parametrize(
    ("counts", "limit", "is_part"),
    [
        ({"original": 60, "effective": 60}, 100, False),
        ({"original": 60, "effective": 20}, None, True),  # lm_eval --samples
        (None, 20, True),
        (None, None, False),
    ],
)
def test_what_the_results_tell_of_a_limit(evaluated, tmp_path, counts, limit, is_part):
    """Results of older versions of lm-eval do not count their documents."""
    tasks = ("nusax_senti_jav", "nusax_senti_dev_jav", "nusax_senti_sun")
    samples = {} if counts is None else dict.fromkeys(tasks, counts)
    path, run_ = copied(evaluated, tmp_path, **{"n-samples": samples})
    path.write_text(json.dumps(run_ | {"config": run_["config"] | {"limit": limit}}))
    assert {cell.is_part for cell in read_lm_eval(path)} == {is_part}


def test_a_model_is_what_it_was_when_it_was_scored(evaluated, tmp_path, monkeypatch):
    """Results name a model by a path, where another may stand by now, or seen from another folder."""
    path, run_ = copied(evaluated, tmp_path / "results")
    other = tmp_path / MERGED / "mergekit_config.yml"
    other.parent.mkdir(parents=True)
    other.write_text(yaml.safe_dump(RECIPE).replace("0.9", "0.3"))
    monkeypatch.chdir(tmp_path)

    def parameters():
        return {cell.task: cell.parameters for cell in read_lm_eval(path)}["nusax_senti_jav"]

    assert parameters() == Parameters(target_weight=0.9)
    # lm-eval's own models note no recipe: the one that stands there counts, if it was there then.
    del run_["config"]["mergekit_config"]
    path.write_text(json.dumps(run_))
    assert parameters() == Parameters()
    os.utime(other, (run_["date"] - 60, run_["date"] - 60))
    assert parameters() == Parameters(target_weight=0.3)


def test_encodings_of_results_and_samples(evaluated, tmp_path):
    path, _ = copied(evaluated, tmp_path)
    expected = read_lm_eval(path)
    assert all(cell.documents for cell in expected)
    for file in tmp_path.iterdir():
        file.write_text(file.read_text(), encoding="utf-16")
    assert read_lm_eval(path) == expected


def test_labels_that_are_not_of_all_documents_are_not_taken(evaluated, tmp_path):
    path, _ = copied(evaluated, tmp_path)
    (samples,) = tmp_path.glob("samples_nusax_senti_jav_*.jsonl")
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:50]))
    assert {cell.task: cell.documents for cell in read_lm_eval(path)}["nusax_senti_jav"] is None


def test_a_damaged_samples_file_is_named(evaluated, tmp_path):
    for path in (evaluated / "results" / "merged__jav_plus_tgt").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (samples,) = tmp_path.glob("samples_nusax_senti_jav_*.jsonl")
    samples.write_text(samples.read_text()[:-40])
    done = report(tmp_path, code=1)
    assert f"Error: {samples}: not a samples file of lm_eval" in done.stderr


@pytest.mark.parametrize(
    ("name", "language", "expected"),
    [
        ("merged/quy_plus_src_plus_tgt", "quy", ("plus_src_plus_tgt", "")),
        (
            "merged/xlm-roberta-large/quy_minus_src_plus_tgt/",
            "quy",
            ("minus_src_plus_tgt", "FacebookAI/xlm-roberta-large"),
        ),
        ("merged/marc_de_plus_tgt", "de", ("plus_tgt", "")),
        ("merged/marc_de_plus_tgt", "fr", ("marc_de_plus_tgt", "")),
        ("merged/americas_nli_plus_src", "quy", ("plus_src", "")),
        ("plus_tgt", "quy", ("plus_tgt", "")),
        ("quy_plus_tgt", None, ("plus_tgt", "")),
        ("vectors/xlm-roberta-base/task/multinli", "quy", ("model", "FacebookAI/xlm-roberta-base")),
        ("someone/mdeberta-nli", "quy", ("mdeberta-nli", "")),
    ],
)
def test_the_variant_is_read_from_the_models_name(tmp_path, name, language, expected):
    task = (
        f"americas_nli_{language}" if language in ("quy",) else f"marc_{language}" if language else "my_task"
    )
    results = {"results": {task: {"acc,none": 0.5}}, "configs": {task: {}}, "model_name": name}
    path = tmp_path / "results_2031-01-01T00-00-00.000000.json"
    path.write_text(json.dumps(results))
    (cell,) = read_lm_eval(path)
    assert (cell.variant, cell.model) == expected


def sample(number, target, *scores, choices=("no", "yes"), filter="none"):
    """One document as lm-eval has it in memory."""
    return {
        "doc_id": number,
        "target": target,
        "arguments": [("a question", f" {choice}") for choice in choices],
        "filtered_resps": [(score, False) for score in scores],
        "filter": filter,
    }


SAMPLES = [
    sample(1, "yes", -3.0, -0.5),
    sample(0, 0, -1.0, -1.0),
    sample(0, 1, -9.0, -1.0, filter="second"),
    sample(1, 0, -9.0, -1.0, filter="second"),
]


def test_labels_are_counted_in_the_order_of_documents_from_numbers_and_from_texts():
    found = documents(SAMPLES, lambda sample: ["no", "yes"])
    assert found == Documents(target=[0, 1], prediction=[0, 1])


@pytest.mark.parametrize("choices", [["no", "yes"], "{{choices}}"])
def test_samples_that_were_written_tell_the_same_as_those_in_memory(tmp_path, choices):
    """lm-eval writes targets and scores as texts, and the choices with the requests alone."""
    date = "2031-01-01T00-00-00.000000"
    lines = []
    for one in SAMPLES:
        requests = {
            f"gen_args_{i}": {f"arg_{j}": text for j, text in enumerate(pair)}
            for i, pair in enumerate(one["arguments"])
        }
        scores = [[str(score), str(greedy)] for score, greedy in one["filtered_resps"]]
        written = {"target": str(one["target"]), "arguments": requests, "filtered_resps": scores}
        lines.append(json.dumps(one | written) + "\n")
    (tmp_path / f"samples_t_{date}.jsonl").write_text("".join(lines))
    config = {"output_type": "multiple_choice", "doc_to_choice": choices}
    run_ = {"results": {"t": {"acc,none": 0.5}}, "configs": {"t": config}, "model_name": "m"}
    (tmp_path / f"results_{date}.json").write_text(json.dumps(run_))
    (cell,) = read_lm_eval(tmp_path / f"results_{date}.json")
    assert cell.documents == documents(SAMPLES, lambda sample: ["no", "yes"])


@pytest.mark.parametrize("target", [[0, 1], "maybe", None])
def test_a_document_without_one_right_choice_has_no_label(target):
    assert documents([sample(0, target, -1.0, -2.0)], lambda sample: ["no", "yes"]) is None


def describe(folder, recipe, task="t"):
    """Variant and parameters of a model whose folder carries `recipe`, scored on `task`."""
    (folder / "merged").mkdir()
    (folder / "merged" / "mergekit_config.yml").write_text(yaml.safe_dump(recipe))
    path = folder / "results_2031-01-01T00-00-00.000000.json"
    run_ = {"results": {task: {"acc,none": 0.5}}, "configs": {task: {}}, "model_name": str(folder / "merged")}
    path.write_text(json.dumps(run_))
    (cell,) = read_lm_eval(path)
    return cell.variant, cell.parameters


def with_target(**parameters):
    task, target = RECIPE["models"]
    return RECIPE | {"models": [task, target | {"parameters": target["parameters"] | parameters}]}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (RECIPE | {"parameters": {"scope": "tensor"}}, ("plus_tgt", Parameters(target_weight=0.9))),
        (
            with_target(density=0.2) | {"parameters": {"select": "bottom"}},
            ("plus_tgt", Parameters(target_weight=0.9, density=0.2, select="bottom", scope="global")),
        ),
        (RECIPE | {"merge_method": "linear"}, ("merged", Parameters())),
        (with_target(weight=[0.1, 0.9]), ("merged", Parameters())),
        (["not a recipe"], ("merged", Parameters())),
    ],
)
def test_a_recipe_is_read_where_it_is_one_of_ours(tmp_path, recipe, expected):
    assert describe(tmp_path, recipe) == expected


def test_a_recipe_for_another_language_does_not_pass_for_a_variant(tmp_path):
    assert describe(tmp_path, RECIPE, task="nusax_senti_sun")[0] == "merged"


def test_task_names_are_the_catalogs():
    names = known_tasks()
    assert names["xnli_xlt_sw"] == ("xnli", "sw", "test")
    assert names["nusax_senti_dev_ind"] == ("nusax", "ind", "dev")
    assert len(names) == 2 * (15 + 10 + 12 + 6)


def test_names_of_results_files(tmp_path):
    assert is_results_file(tmp_path / "results_2026-01-01T00-00-00.000001.json")
    assert is_results_file(tmp_path / "mine_2026-01-01T00-00-00.000001.json")
    assert not is_results_file(tmp_path / "config.json")
    assert not is_results_file(tmp_path / "samples_x_2026-01-01T00-00-00.000001.jsonl")
    (tmp_path / "results_x.json").write_text('{"results": 3, "configs": {}}')
    with pytest.raises(UserError, match=r"results_x\.json: not a results file of lm_eval"):
        read_lm_eval(tmp_path / "results_x.json")
