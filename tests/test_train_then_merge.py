"""What `taxlt train` writes is what merges and exports read: Fisher information and sparse vectors."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.helpers.hosts import forked, mergekit_yaml
from tests.helpers.training import SHORT, assert_same_weights, train

TASK = ("--max-steps", 4, "--batch-size", 8, "--max-length", 48, "--learning-rate", "1e-3")


def weights(folder: Path, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / file)


@pytest.fixture(scope="module")
def trained(small_xlmr, small_text, small_rows, tmp_path_factory) -> Path:
    """A sparse task vector and a sparse language vector, with Fisher information."""
    folder = tmp_path_factory.mktemp("trained")
    more = ("--sparse", "0.05", "--fisher", 6)
    done = train(small_xlmr, *small_rows, *TASK, *more, "--output", folder / "task", kind="task")
    assert done.code == 0, done
    text = ("--corpus", small_text, *SHORT, "--max-steps", 4)
    done = train(small_xlmr, *text, *more, "--output", folder / "lang")
    assert done.code == 0, done
    return folder


def recipe(trained: Path, small_xlmr: Path, method: str) -> dict:
    models = [
        {"model": str(trained / "task"), "parameters": {"role": "task", "weight": 1.0}},
        {"model": str(trained / "lang"), "parameters": {"role": "target", "weight": 0.5}},
    ]
    return {"merge_method": method, "base_model": str(small_xlmr), "models": models, "dtype": "float32"}


def merged(document: dict, folder: Path) -> Path:
    (folder / "recipe.yml").write_text(yaml.safe_dump(document))
    done = mergekit_yaml(folder / "recipe.yml", folder / "out")
    assert done.code == 0, done.stderr
    return folder / "out"


def test_fisher_information_weighs_what_was_trained(trained, small_xlmr, tmp_path):
    out = weights(merged(recipe(trained, small_xlmr, "xlt_fisher"), tmp_path))
    models = {name: weights(trained / name) for name in ("task", "lang")}
    fishers = {name: weights(trained / name, "fisher.safetensors") for name in models}
    assert out.keys() == models["task"].keys()
    compared = 0
    for name, value in out.items():
        if name not in models["lang"]:
            assert torch.equal(value, models["task"][name])
            continue
        shares = {"task": fishers["task"][name].double(), "lang": 0.5 * fishers["lang"][name].double()}
        total = shares["task"] + shares["lang"]
        plain = (models["task"][name].double() + 0.5 * models["lang"][name].double()) / 1.5
        mean = sum(shares[model] * models[model][name].double() for model in models) / total
        torch.testing.assert_close(
            value.double(), torch.where(total > 1e-30, mean, plain), rtol=1e-4, atol=1e-6
        )
        compared += int((total > 1e-30).sum())
    assert compared > 1000
    assert not (tmp_path / "out" / "fisher.safetensors").exists()


def test_a_sparse_vector_goes_through_its_file_and_back(trained, small_xlmr, tmp_path):
    """Export and import give the same tensors."""
    done = forked("taxlt", "export", "sft", trained / "task", tmp_path / "sft", "--model", small_xlmr)
    assert done.code == 0, done.stderr
    assert (tmp_path / "sft" / "pytorch_diff.bin").stat().st_size < (
        trained / "task" / "model.safetensors"
    ).stat().st_size
    again = ("--model", small_xlmr, "--task", "own", "--output", tmp_path / "task")
    done = forked("taxlt", "import", "sft", tmp_path / "sft", *again)
    assert done.code == 0, done.stderr
    assert_same_weights(trained / "task", tmp_path / "task")
