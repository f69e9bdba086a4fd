"""What mergekit-yaml writes goes straight into lm_eval."""

from sklearn.metrics import accuracy_score

from tests.helpers.evaluation import plain_scores, random_rows, results, write_rows
from tests.helpers.families import LABELS, build
from tests.helpers.hosts import console
from tests.helpers.merging import merge, recipe

POSITIONS = 62  # of the tiny XLM-R's 64, two come before the first token


def test_a_merged_model_is_evaluated_as_it_is_written(tmp_path):
    folder = build(tmp_path, "xlm-roberta")
    models = {"task": {"role": "task"}, "tgt": {"role": "target", "weight": 0.9}}
    merged = merge(recipe(folder, models), tmp_path, name="merged")
    rows, other_rows = (random_rows("americas_nli", 100, seed) for seed in (0, 1))
    write_rows(tmp_path / "data", "americas_nli", "quy", "test", rows)
    write_rows(tmp_path / "data", "americas_nli", "quy", "validation", other_rows)
    done = console(
        *("lm_eval", "--model", "hf-seq-cls", "--model_args", f"pretrained={merged}"),
        *("--tasks", "americas_nli_quy", "--batch_size", "auto", "--output_path", tmp_path / "scores"),
        TAXLT_DATA=str(tmp_path / "data"),
        OMP_NUM_THREADS="1",
    )
    assert done.code == 0, done.stderr
    assert f"are longer than {POSITIONS} tokens and were truncated" in done.stderr

    scores, _ = plain_scores(merged, [(row["premise"], row["hypothesis"]) for row in rows], POSITIONS)
    labels = [LABELS.index(row["label"]) for row in rows]
    found = results(tmp_path / "scores")["results"]["americas_nli_quy"]
    assert found["acc,none"] == accuracy_score(labels, scores.argmax(dim=1))
