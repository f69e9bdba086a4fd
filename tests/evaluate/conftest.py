"""What the tests of evaluation share: small classifiers, made-up data and tasks."""

import json
from pathlib import Path

import datasets
import pytest

from taxlt_mergekit.paper import catalog
from tests.helpers.evaluation import (
    BUILT_IN,
    NLI_LABELS,
    SENTIMENT_LABELS,
    make_classifier,
    random_rows,
    write_rows,
)


@pytest.fixture(scope="package")
def models(tmp_path_factory) -> Path:
    """Folders of small random classifiers by name."""
    folder = tmp_path_factory.mktemp("models")
    make_classifier(folder / "nli", NLI_LABELS)
    make_classifier(folder / "sentiment", SENTIMENT_LABELS)
    make_classifier(folder / "two", ["neg", "pos"])
    make_classifier(folder / "unrelated", ["sport", "politics", "arts"])
    make_classifier(folder / "nameless", num_labels=3)
    return folder


@pytest.fixture(scope="package")
def small_data(tmp_path_factory) -> Path:
    """A few rows of every benchmark, in the layout of TAXLT_DATA; languages differ in size and labels."""
    root = tmp_path_factory.mktemp("data")
    for name, benchmark in catalog.load().benchmarks.items():
        for number, code in enumerate(benchmark.tasks):
            for split in ("validation", "test"):
                rows = [
                    {column: f"{split} {code} {column} {row}" for column in benchmark.inputs}
                    | {"label": benchmark.labels[(row * row + number) % len(benchmark.labels)]}
                    for row in range(5 + number % 3)
                ]
                write_rows(root, name, code, split, rows)
    return root


@pytest.fixture(scope="package")
def many_rows(tmp_path_factory) -> Path:
    """As many rows as a real test set has, of one language of AmericasNLI and one of NusaX."""
    root = tmp_path_factory.mktemp("many")
    for benchmark, code in (("americas_nli", "quy"), ("nusax", "jav")):
        for split in ("validation", "test"):
            write_rows(root, benchmark, code, split, random_rows(benchmark, 400, split))
    return root


@pytest.fixture(scope="package")
def built_in_tasks(tmp_path_factory):
    """lm-eval's own NLI tasks, as they are but for the data, which this machine may not have."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"premise": f"the cat {i}", "hypothesis": f"a dog {i * i}", "label": i % 3} for i in range(40)]
    named = datasets.Features(
        {name: datasets.Value("string") for name in ("premise", "hypothesis")}
        | {"label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])}
    )
    datasets.Dataset.from_list(rows, features=named).to_parquet(folder / "named.parquet")
    datasets.Dataset.from_list(rows).to_parquet(folder / "numbered.parquet")
    pair = [
        {"sentence1": row["premise"], "sentence2": row["hypothesis"], "label": row["label"] % 2}
        for row in rows
    ]
    datasets.Dataset.from_list(pair).to_parquet(folder / "pair.parquet")
    sources = {
        "xnli_en": ("xnli/xnli_en.yaml", "named"),
        "xnli_eu": ("xnli_eu/xnli_eu.yaml", "numbered"),
        "afrixnli_answers": ("afrixnli/direct/prompt_2/afrixnli_swa.yaml", "numbered"),
        "afrixnli_names": ("afrixnli/direct/prompt_1/afrixnli_swa.yaml", "numbered"),
        "mrpc": ("glue/mrpc/default.yaml", "pair"),
    }
    for name, (path, data) in sources.items():
        files = {split: str(folder / f"{data}.parquet") for split in ("train", "validation", "test")}
        task = f"include: {BUILT_IN / path}\ntask: copy_{name}\ntag: null\ndataset_path: parquet\n"
        task += f"dataset_name: null\ndataset_kwargs: {json.dumps({'data_files': files})}\n"
        (folder / f"{name}.yaml").write_text(task)
    test = f"dataset_path: parquet\ndataset_kwargs: {json.dumps({'data_files': files})}\n"
    test += "test_split: test\ndoc_to_text: '{{sentence1}}'\ndoc_to_target: '{{sentence2}}'\n"
    (folder / "write.yaml").write_text(test + "task: copy_write\noutput_type: generate_until\n")
    (folder / "read.yaml").write_text(test + "task: copy_read\noutput_type: loglikelihood_rolling\n")
    return folder
