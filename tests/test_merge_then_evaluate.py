"""What mergekit-yaml writes goes straight into lm_eval."""

from sklearn.metrics import accuracy_score

from taxlt_mergekit.paper.rows import benchmark_rows
from tests.helpers.evaluation import plain_scores, results
from tests.helpers.families import LABELS, build
from tests.helpers.hosts import console
from tests.merge.test_merge import merge, recipe

POSITIONS = 38  # of the tiny XLM-R's 40, two come before the first token


def test_a_merged_model_is_evaluated_as_it_is_written(real_data, tmp_path, monkeypatch):
    folder = build(tmp_path, "xlm-roberta")
    models = {"task": {"role": "task"}, "tgt": {"role": "target", "weight": 0.9}}
    merged = merge(recipe(folder, models), tmp_path, name="merged")
    done = console(
        *["lm_eval", "--model", "hf-seq-cls", "--model_args", f"pretrained={merged}"],
        *[
            "--tasks",
            "americas_nli_quy",
            "--limit",
            "100",
            "--batch_size",
            "auto",
            "--output_path",
            tmp_path / "scores",
        ],
        TAXLT_DATA=str(real_data),
        OMP_NUM_THREADS="1",
    )
    assert done.code == 0, done.stderr
    assert "are longer than 38 tokens and were truncated" in done.stderr

    monkeypatch.setenv("TAXLT_DATA", str(real_data))
    rows = benchmark_rows("americas_nli", "quy", "test").select(range(100))
    assert rows.features["label"].names == LABELS
    pairs = list(zip(rows["premise"], rows["hypothesis"], strict=True))
    scores, _ = plain_scores(merged, pairs, max_length=POSITIONS)
    found = results(tmp_path / "scores")["results"]["americas_nli_quy"]
    assert found["acc,none"] == accuracy_score(rows["label"], scores.argmax(dim=1))
