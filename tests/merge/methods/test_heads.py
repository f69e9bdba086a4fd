"""Several task models: their heads are merged as their bodies are; with and without θ₀ in the recipe."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.helpers.families import build
from tests.helpers.hosts import mergekit_yaml
from tests.helpers.merging import load_without_gaps, tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """BERT's checkpoints, and `second`: a task model of another seed."""
    folder = build(tmp_path_factory.mktemp("models"), "bert")
    (folder / "second").mkdir()
    torch.manual_seed(3)
    state = {
        name: tensor + 0.05 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in tensors(folder / "task").items()
    }
    save_file(state, folder / "second" / "model.safetensors", metadata={"format": "pt"})
    (folder / "second" / "config.json").write_bytes((folder / "task" / "config.json").read_bytes())
    return folder


def merged(folder: Path, tmp_path: Path, method: str, weights: dict[str, float], base: bool) -> Path:
    roles = {"src": "source", "tgt": "target"}
    document = {
        "merge_method": method,
        "models": [
            {"model": str(folder / name), "parameters": {"role": roles.get(name, "task"), "weight": weight}}
            for name, weight in weights.items()
        ],
        "dtype": "float32",
    } | ({"base_model": str(folder / "theta0")} if base else {})
    (tmp_path / "r.yml").write_text(yaml.dump(document))
    done = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert done.code == 0, done.stderr
    return tmp_path / "out"


@pytest.mark.parametrize("base", [False, True])
def test_a_soup_averages_bodies_and_heads(base, folder, tmp_path):
    """`base_model` says no more than what is body and what head: `linear` has no base."""
    found = tensors(merged(folder, tmp_path, "xlt_linear", {"task": 3.0, "second": 1.0}, base))
    first, second = tensors(folder / "task"), tensors(folder / "second")
    assert found.keys() == first.keys() and "classifier.weight" in found
    for name, value in found.items():
        want = 0.75 * first[name].double() + 0.25 * second[name].double()
        torch.testing.assert_close(value.double(), want, atol=1e-6, rtol=0)
        assert not torch.equal(value, first[name])
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Task models merged into one" in text and ("theta0" in text) == base
    assert ("the head is merged of 2 task models" in text) == base
    load_without_gaps(tmp_path / "out")


@pytest.mark.parametrize("base", [False, True])
def test_a_language_takes_part_in_the_body_alone(base, folder, tmp_path):
    out = merged(folder, tmp_path, "xlt_linear", {"task": 1.0, "second": 1.0, "tgt": 2.0}, base)
    found, target = tensors(out), tensors(folder / "tgt")
    first, second = tensors(folder / "task"), tensors(folder / "second")
    for name, value in found.items():
        want = (first[name].double() + second[name].double()) / 2
        if name in target:
            want = want / 2 + target[name].double() / 2
        torch.testing.assert_close(value.double(), want, atol=1e-6, rtol=0)
    assert set(found) - set(target) == {n for n in found if n.startswith(("classifier.", "bert.pooler."))}


def test_without_a_base_the_body_is_what_all_models_share(folder, tmp_path):
    found = tensors(merged(folder, tmp_path, "xlt_nuslerp", {"task": 1.0, "tgt": 1.0}, base=False))
    task, target = tensors(folder / "task"), tensors(folder / "tgt")
    copied = {name for name in found if torch.equal(found[name], task[name])}
    assert copied == task.keys() - target.keys() and "classifier.weight" in copied


def test_random_methods_draw_the_same_in_each_run_and_otherwise_under_another_seed(folder, tmp_path):
    weights = {"task": 1.0, "tgt": 1.0}
    document = {
        "merge_method": "xlt_dare_linear",
        "base_model": str(folder / "theta0"),
        "models": [
            {"model": str(folder / n), "parameters": {"role": r, "weight": w, "density": 0.5}}
            for (n, w), r in zip(weights.items(), ("task", "target"), strict=True)
        ],
        "dtype": "float32",
    }
    (tmp_path / "r.yml").write_text(yaml.dump(document))
    outs = []
    for name, flags in (("a", []), ("b", []), ("zero", ["--random-seed", 0]), ("one", ["--random-seed", 1])):
        done = mergekit_yaml(tmp_path / "r.yml", tmp_path / name, *flags)
        assert done.code == 0, done.stderr
        outs.append(tensors(tmp_path / name)["bert.encoder.layer.0.output.dense.weight"])
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
    assert not torch.equal(outs[0], outs[3])
