"""The task folders by themselves: their metric, and their use in an lm-eval that lacks this package."""

import importlib.util
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from taxlt_mergekit.paper.tasks import task_folder
from tests.helpers.hosts import console

spec = importlib.util.spec_from_file_location("metrics", task_folder() / "nusax_senti" / "metrics.py")
metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metrics)

items = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(items)
def test_f1_macro_is_scikit_learns(pairs):
    gold, predicted = zip(*pairs, strict=True)
    assert metrics.f1_macro(pairs) == f1_score(gold, predicted, average="macro")
    assert metrics.f1_macro(pairs) == metrics.f1_macro(pairs[::-1])


def test_its_standard_error_is_that_of_lm_evals_own_bootstrap(monkeypatch):
    from lm_eval.api.metrics import bootstrap_stderr

    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    random = np.random.default_rng(0)
    gold = random.choice(3, size=120, p=[0.5, 0.4, 0.1])
    predicted = np.where(random.random(120) < 0.7, gold, random.integers(0, 3, 120))
    pairs = list(zip(gold.tolist(), predicted.tolist(), strict=True))
    # The bootstrap's own error at 1,000 draws is about 2 %.
    of_host = bootstrap_stderr(metrics.f1_macro, pairs, iters=1000)
    assert metrics.f1_macro_stderr(pairs) == pytest.approx(of_host, rel=0.1)
    assert metrics.f1_macro_stderr(pairs) == metrics.f1_macro_stderr(pairs)
    assert metrics.f1_macro_stderr([(1, 1)] * 10) == 0


@pytest.mark.parametrize("label", [2, "positive"])
def test_a_document_counts_the_same_by_number_and_by_name(label):
    scores = [(-2.0, False), (-3.0, False), (-0.5, True)]
    found = metrics.process_results({"text": "a", "label": label}, scores)
    assert found == {"f1_macro": (2, 2), "acc": 1.0, "f1_macro_stderr": (2, 2)}


WITHOUT_THE_PACKAGE = """
import json, sys
sys.modules["taxlt_mergekit"] = None
import datasets
calls = []
def load_dataset(path, name=None, **options):
    calls.append([path, name, sorted(options.get("data_files", {}))])
    rows = {"premise": ["a"], "hypothesis": ["b"], "text": ["c"], "label": [0]}
    if path == "csv":
        rows["label"] = ["negative"]
    return {split: datasets.Dataset.from_dict(rows) for split in ("validation", "test")}
datasets.load_dataset = load_dataset
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
tasks = ["americas_nli_quy", "xnli_xlt_dev_de", "nusax_senti_jav"]
manager = TaskManager(include_path=sys.argv[1], include_defaults=False)
found = simple_evaluate("dummy", tasks=tasks, task_manager=manager)
print("FOUND", json.dumps([calls, sorted(found["results"])]))
"""


def test_the_folders_work_in_an_lm_eval_without_this_package():
    done = console("python", "-c", WITHOUT_THE_PACKAGE, task_folder(), TAXLT_NO_AUTOLOAD="1")
    assert done.code == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    calls, tasks = json.loads(line.removeprefix("FOUND "))
    assert calls == [
        ["nala-cub/americas_nli", "quy", []],
        ["facebook/xnli", "de", []],
        ["csv", None, ["test", "validation"]],
    ]
    assert tasks == ["americas_nli_quy", "nusax_senti_jav", "xnli_xlt_dev_de"]
