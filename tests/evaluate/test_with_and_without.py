"""One number, with this package or without it: every group, every score and every standard error."""

import json
from pathlib import Path

import pytest

from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.tasks import task_folder
from tests.helpers import plain_lm_eval
from tests.helpers.evaluation import random_rows, write_rows
from tests.helpers.hosts import console, forked

BENCHMARKS = list(catalog.load().benchmarks.values())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Rows of every task; languages differ in number of rows, and MARC has reviews with three stars."""
    root = tmp_path_factory.mktemp("data")
    for name, benchmark in catalog.load().benchmarks.items():
        for number, code in enumerate(benchmark.tasks):
            for split in ("validation", "test"):
                rows = random_rows(name, 6 + number % 4, f"{name} {code} {split}")
                write_rows(root, name, code, split, rows)
            if name == "nusax":  # on the hub by their codes
                (root / "nusax" / code).symlink_to(benchmark.fill("{folder}", code))
    for path in root.glob("marc/*.json"):
        review = {"stars": "3", "review_title": "so so", "review_body": "neither good nor bad"}
        path.write_text(f"{json.dumps(review)}\n{path.read_text()}")
    return root


def scores(mode: str, folder: Path, data: Path, *groups: str) -> list[dict[str, dict]]:
    """Results and groups of lm-eval, which see `plain_lm_eval`."""
    environment = {"TAXLT_NO_AUTOLOAD": "1" if mode == "without" else "0", "OMP_NUM_THREADS": "1"}
    done = console("python", plain_lm_eval.__file__, mode, folder, data, *groups, **environment)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ours(data) -> list[dict[str, dict]]:
    return scores("with", task_folder(), data, *groups(*BENCHMARKS, splits=("", "_dev")))


def groups(*benchmarks: catalog.Benchmark, splits: tuple[str, ...] = ("",)) -> list[str]:
    return [
        f"{benchmark.group}{split}{'_all' if benchmark.outside_mean else ''}"
        for benchmark in benchmarks
        for split in splits
    ]


def test_every_group_has_the_same_scores_without_the_package(data, ours):
    assert scores("without", task_folder(), data, *groups(*BENCHMARKS, splits=("", "_dev"))) == ours
    tasks, means = ours
    assert set(means) == {f"{benchmark.group}{split}" for benchmark in BENCHMARKS for split in ("", "_dev")}
    assert {f"{benchmark.group}_{code}" for benchmark in BENCHMARKS for code in benchmark.tasks} <= set(tasks)
    assert len({task["acc,none"] for task in tasks.values() if "acc,none" in task}) > 10
    assert tasks["marc_de"]["sample_len"] == 6
    assert all(means[name]["f1_macro_stderr,none"] > 0 for name in ("nusax_senti", "nusax_senti_dev"))


def test_exported_tasks_have_the_same_scores_in_an_lm_eval_that_knows_nothing_of_us(data, ours, tmp_path):
    assert forked("taxlt", "export", "lm-eval", tmp_path).code == 0
    exported = [benchmark for benchmark in BENCHMARKS if benchmark.group != "marc"]
    tasks, means = scores("without", tmp_path, data, *groups(*exported))
    assert set(means) == {benchmark.group for benchmark in exported}
    assert {name: ours[0][name] for name in tasks} == tasks
    assert {name: ours[1][name] for name in means} == means
