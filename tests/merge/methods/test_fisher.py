"""`xlt_fisher`: the mean that Fisher information weighs, against a plain loop, and as a user merges by it."""

from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from taxlt_mergekit.merge.arithmetic import Weighed, fisher_mean
from taxlt_mergekit.model_files import check_folder, copy_companions, model_entries
from tests.helpers.families import build
from tests.helpers.hosts import mergekit_yaml
from tests.helpers.merging import tensors

VALUES = st.floats(-4, 4, width=32)
FISHERS = st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 7.0])
ENTRY = st.tuples(VALUES, FISHERS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ENTRY, min_size=3, max_size=3), min_size=1, max_size=5), st.tuples(*[FISHERS] * 3))
def test_against_a_plain_loop(rows, weights):
    """rows[entry][model] is (θ, F)."""
    if not any(weights):
        weights = (1.0, 0.0, 2.0)
    models = [
        Weighed(
            torch.tensor([row[m][0] for row in rows]), weights[m], torch.tensor([row[m][1] for row in rows])
        )
        for m in range(3)
    ]
    found = fisher_mean(models)
    for row, value in zip(rows, found.tolist(), strict=True):
        shares = [weight * entry[1] for weight, entry in zip(weights, row, strict=True)]
        if sum(shares) <= 1e-30:
            shares = list(weights)
        want = sum(share * entry[0] for share, entry in zip(shares, row, strict=True)) / sum(shares)
        assert value == pytest.approx(want, abs=2e-6)


def test_one_that_knows_alone_is_taken_as_it_is():
    values, other = torch.randn(50), torch.randn(50)
    knows = Weighed(values, 0.3, torch.rand(50) + 1e-8)
    assert torch.equal(fisher_mean([knows, Weighed(other, 5.0, torch.zeros(50))]), values)
    half = fisher_mean([knows, Weighed(other, 5.0, torch.zeros(50))], dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_chunks_do_not_show():
    generator = torch.Generator().manual_seed(0)
    big = [torch.randn(300_001, generator=generator) for _ in range(2)]
    fishers = [torch.rand(300_001, generator=generator) for _ in range(2)]
    found = fisher_mean([Weighed(t, w, f) for t, w, f in zip(big, (1.0, 0.5), fishers, strict=True)])
    want = (big[0].double() * fishers[0] + 0.5 * big[1].double() * fishers[1]) / (
        fishers[0] + 0.5 * fishers[1]
    )
    torch.testing.assert_close(found.double(), want, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """XLM-R's checkpoints with a random Fisher information beside each but θ₀."""
    folder = build(tmp_path_factory.mktemp("models"), "xlm-roberta")
    torch.manual_seed(5)
    for name in ("task", "src", "tgt"):
        state = {key: torch.rand(value.shape) for key, value in tensors(folder / name).items()}
        save_file(state, folder / name / "fisher.safetensors")
    return folder


def recipe(folder: Path) -> dict:
    roles = {"task": {"role": "task"}, "tgt": {"role": "target", "weight": 0.5}}
    return {
        "merge_method": "xlt_fisher",
        "base_model": str(folder / "theta0"),
        "models": [{"model": str(folder / name), "parameters": p} for name, p in roles.items()],
        "dtype": "float32",
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_merge(folder, tmp_path):
    (tmp_path / "r.yml").write_text(yaml.dump(recipe(folder)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fisher.safetensors").write_bytes(b"of a model that was here before")
    (tmp_path / "out" / "config.json").write_text("{}")
    done = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert done.code == 0, done.stderr
    assert not (tmp_path / "out" / "fisher.safetensors").exists()
    found, task, target = (weights(path) for path in (tmp_path / "out", folder / "task", folder / "tgt"))
    f_task, f_target = (load_file(folder / name / "fisher.safetensors") for name in ("task", "tgt"))
    assert found.keys() == task.keys()
    for name, value in found.items():
        if name not in target:
            assert torch.equal(value, task[name])
            continue
        shares = f_task[name].double(), 0.5 * f_target[name].double()
        want = (shares[0] * task[name] + shares[1] * target[name]) / sum(shares)
        torch.testing.assert_close(value.double(), want, atol=1e-6, rtol=0)


def test_it_is_no_second_set_of_weights_and_is_not_copied(folder, tmp_path):
    check_folder(str(folder / "task"))
    assert "fisher.safetensors" in model_entries(str(folder / "task"))
    copy_companions(str(folder / "task"), str(tmp_path))
    assert not (tmp_path / "fisher.safetensors").exists()


PLACE = "roberta.encoder.layer.1.output.dense.weight"
DAMAGE = {
    "negative": (lambda s: s[PLACE].view(-1)[3:4].fill_(-1.0), [PLACE, "negative"]),
    "NaN": (lambda s: s[PLACE].view(-1)[3:4].fill_(float("nan")), [PLACE, "NaN"]),
    "of other names": (lambda s: s.pop(PLACE), [PLACE, "no tensor", "--fisher"]),
    "of another shape": (lambda s: s.update({PLACE: s[PLACE][:3].clone()}), [PLACE, "shape"]),
    "of another type": (lambda s: s.update({PLACE: s[PLACE].half()}), [PLACE, "float16", "float32"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_does_not_fit(damage, folder, tmp_path):
    change, words = DAMAGE[damage]
    for name in ("theta0", "task", "tgt"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "tgt").unlink()
    (tmp_path / "tgt").mkdir()
    for file in (folder / "tgt").iterdir():
        (tmp_path / "tgt" / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "tgt" / "fisher.safetensors")
    change(state)
    save_file(state, tmp_path / "tgt" / "fisher.safetensors")
    (tmp_path / "r.yml").write_text(yaml.dump(recipe(tmp_path)))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code == 1 and "Traceback" not in outcome.stderr
    assert all(word in outcome.last_line for word in ["fisher.safetensors", *words]), outcome.stderr
    assert not (tmp_path / "out").exists()
