"""Recipes for the checkpoints of `families.build`, merges by the real command, and what must come out."""

import json
from pathlib import Path

import torch
import transformers
import yaml
from safetensors.torch import load_file

from tests.helpers.hosts import mergekit_yaml

ROLES = {
    "task": {"role": "task"},
    "src": {"role": "source", "weight": 0.5},
    "tgt": {"role": "target", "weight": 0.9},
}


def recipe(folder: Path, models: dict | None = None, method="xlt_additive", **extra) -> dict:
    models = ROLES if models is None else models
    return {
        "merge_method": method,
        "base_model": str(folder / "theta0"),
        "models": [{"model": str(folder / name), "parameters": dict(p)} for name, p in models.items()],
        "dtype": "float32",
    } | extra


def merge(document: dict, tmp_path: Path, *flags: str, name: str = "out", run=mergekit_yaml) -> Path:
    """Run mergekit-yaml on a recipe, expect success, and return the output folder."""
    path = tmp_path / f"{name}.yml"
    path.write_text(yaml.safe_dump(document))
    arguments = (path, tmp_path / name, *flags)
    outcome = run(*arguments)
    assert outcome.code == 0, outcome.stderr
    return tmp_path / name


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


def expected(folder: Path, weights: dict[str, float]) -> dict[str, torch.Tensor]:
    """θ₀ + Σ λ τ in float64, and the task model's tensor where θ₀ has none."""
    base, task = tensors(folder / "theta0"), tensors(folder / "task")
    result = {}
    for name, value in task.items():
        if name not in base:
            result[name] = value
            continue
        start = base[name].double()
        result[name] = start + (value.double() - start)
        for model, weight in weights.items():
            result[name] += weight * (tensors(folder / model)[name].double() - start)
    return result


def assert_merged(out: Path, folder: Path, weights: dict[str, float], tolerance: float = 1e-6) -> None:
    found, wanted = tensors(out), expected(folder, weights)
    base = tensors(folder / "theta0")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name in base:
            torch.testing.assert_close(found[name].double(), value, atol=tolerance, rtol=0, msg=name)
        else:
            assert torch.equal(found[name], value), f"head tensor {name} was changed"


def load_without_gaps(out: Path):
    config = json.loads((out / "config.json").read_text())
    model_class = getattr(transformers, config["architectures"][0])
    model, info = model_class.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model
