"""notebooks/quechua.ipynb, cell by cell, on a tiny model and made-up vectors."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from safetensors.torch import load_file
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

from tests.helpers.commands import commands_in
from tests.helpers.evaluation import random_rows, results, write_rows
from tests.helpers.hosts import BIN
from tests.helpers.sparse_files import save, sparse

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quechua.ipynb"
QUERY = "roberta.encoder.layer.0.attention.self.query.weight"


def cells_of(notebook, tag: str) -> list:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def write_vectors(base: Path, folder: Path) -> None:
    """A language's and a task's sparse fine-tuning of θ₀, the task's with a head that tells texts apart."""
    weights = load_file(base / "model.safetensors")
    save(folder / "quy", {QUERY: sparse(weights[QUERY], 0.1, 1)})
    torch.manual_seed(0)
    config = XLMRobertaConfig.from_pretrained(base, num_labels=3, initializer_range=0.6)
    model = XLMRobertaForSequenceClassification(config)
    head = {name: value for name, value in model.state_dict().items() if name.startswith("classifier.")}
    save(folder / "nli", {QUERY: sparse(weights[QUERY], 0.2, 2)}, head)


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """The notebook's cells run in this environment, as in one that `pip install` filled."""
    with commands_in(tmp_path / "bin") as folder:
        monkeypatch.setenv("PATH", os.pathsep.join([str(folder), str(BIN), os.environ["PATH"]]))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        yield


def test_the_notebook_ends_with_the_score_that_lm_eval_wrote(kernel, small_xlmr, tmp_path):
    write_vectors(small_xlmr, tmp_path / "published")
    write_rows(tmp_path / "data", "americas_nli", "quy", "test", random_rows("americas_nli", 40, 3))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    (install,), (parameters,) = cells_of(notebook, "install"), cells_of(notebook, "parameters")
    notebook.cells.remove(install)
    given = {
        "MODEL": str(small_xlmr),
        "TASK_VECTOR": str(tmp_path / "published" / "nli"),
        "LANGUAGE_VECTOR": str(tmp_path / "published" / "quy"),
        "CODE": "quy",
        "DATA": str(tmp_path / "data"),
    }
    assert re.findall(r"^(\w+) = ", parameters.source, re.M) == list(given)
    parameters.source = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    work = tmp_path / "work"
    work.mkdir()
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": work}}
    )
    client.execute()

    found = results(work / "results")
    score = found["results"]["americas_nli_quy"]["acc,none"]
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert last.outputs[-1].text == f"Accuracy on quy: {score:.2%}\n"
    assert found["n-samples"]["americas_nli_quy"]["effective"] == 40
    # What was scored is the recipe's merge of both vectors, under the task's labels.
    config = json.loads((work / "out" / "config.json").read_text())
    assert set(config["id2label"].values()) == {"entailment", "neutral", "contradiction"}
    parts = [work / "vectors" / small_xlmr.name / name for name in ("task/multinli", "lang/quy")]
    task, quy = (load_file(part / "model.safetensors")[QUERY] for part in parts)
    base = load_file(small_xlmr / "model.safetensors")[QUERY]
    merged = load_file(work / "out" / "model.safetensors")[QUERY]
    torch.testing.assert_close(merged, task + 0.9 * (quy - base))
