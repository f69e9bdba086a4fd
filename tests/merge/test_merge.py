"""What a user of mergekit-yaml gets: the right weights, the task model's head, config and tokenizer."""

import filecmp
import math
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from safetensors.torch import save_file

from tests.helpers.families import LABELS, build
from tests.helpers.hosts import console, mergekit_yaml
from tests.helpers.merging import assert_merged, expected, load_without_gaps, merge, recipe, tensors


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("xlmr"), "xlm-roberta")


@pytest.mark.parametrize(("method", "sign"), [("xlt_additive", 1), ("xlt_analogy", -1)])
def test_both_equations(xlmr, method, sign, tmp_path):
    out = merge(recipe(xlmr, method=method), tmp_path)
    assert_merged(out, xlmr, {"src": sign * 0.5, "tgt": 0.9})
    model = load_without_gaps(out)
    assert type(model) is transformers.XLMRobertaForSequenceClassification
    assert [model.config.id2label[i] for i in range(3)] == LABELS


def test_the_console_command_end_to_end(xlmr, tmp_path):
    """The real script in a real process; the output has the task model's tokenizer and a model card."""
    out = merge(recipe(xlmr), tmp_path, run=lambda *a: console("mergekit-yaml", *a))
    assert_merged(out, xlmr, {"src": 0.5, "tgt": 0.9})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert filecmp.cmp(out / name, xlmr / "task" / name, shallow=False)
    card = (out / "README.md").read_text()
    for part in ("xlt_additive", "Parović", "2024.eacl-short.12", "role: target", "theta0"):
        assert part in card
    assert yaml.safe_load((out / "mergekit_config.yml").read_text()) == recipe(xlmr)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    assert loaded.config.num_labels == 3


def test_mergekit_multi_knows_the_methods(xlmr, tmp_path):
    first = recipe(xlmr, {"task": {"role": "task"}, "tgt": {"role": "target", "weight": 1.0}}) | {
        "name": "first"
    }
    second = recipe(xlmr)
    second["models"] = [
        {"model": "first", "parameters": {"role": "task"}},
        {"model": str(xlmr / "src"), "parameters": {"role": "source", "weight": 0.25}},
    ]
    (tmp_path / "multi.yml").write_text(yaml.safe_dump_all([first, second]))
    outcome = console(
        "mergekit-multi", tmp_path / "multi.yml", "-I", tmp_path / "steps", "--out-path", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.stderr
    assert_merged(tmp_path / "out", xlmr, {"tgt": 1.0, "src": 0.25})


def test_equation_2_with_several_languages_and_a_task_factor(xlmr, tmp_path):
    build(tmp_path / "more", "xlm-roberta")
    models = {
        "task": {"role": "task", "weight": 0.8},
        "src": {"role": "source", "weight": 0.3},
        "tgt": {"role": "target", "weight": 0.2},
    }
    document = recipe(xlmr, models)
    other = tmp_path / "other"
    save = {
        k: v + 0.01 * torch.sin(torch.arange(v.numel()).float()).view_as(v)
        for k, v in tensors(xlmr / "tgt").items()
    }
    other.mkdir()
    save_file(save, other / "model.safetensors", metadata={"format": "pt"})
    (other / "config.json").write_text((xlmr / "tgt" / "config.json").read_text())
    document["models"].append({"model": str(other), "parameters": {"role": "target", "weight": -0.4}})
    found = tensors(merge(document, tmp_path))
    base, task = tensors(xlmr / "theta0"), tensors(xlmr / "task")
    source, target = tensors(xlmr / "src"), tensors(xlmr / "tgt")
    for name in base.keys() & task.keys():
        b = base[name].double()
        want = (
            b
            + 0.8 * (task[name] - b)
            + 0.3 * (source[name] - b)
            + 0.2 * (target[name] - b)
            - 0.4 * (save[name] - b)
        )
        torch.testing.assert_close(found[name].double(), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("select", ["top", "bottom"])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_density_keeps_exactly_k_entries(xlmr, tmp_path, select, scope):
    document = recipe(
        xlmr,
        {"task": {"role": "task"}, "tgt": {"role": "target", "weight": 1.0, "density": 0.2}},
        parameters={"select": select, "scope": scope},
    )
    found = tensors(merge(document, tmp_path))
    base, task, target = (tensors(xlmr / name) for name in ("theta0", "task", "tgt"))
    shared = sorted(base.keys() & task.keys())
    vectors = {name: (target[name] - base[name]).flatten() for name in shared}
    groups = [shared] if scope == "global" else [[name] for name in shared]
    for names in groups:
        joined = torch.cat([vectors[name] for name in names])
        k = math.floor(0.2 * len(joined))
        order = joined.abs().argsort(descending=select == "top", stable=True)[:k]
        kept = torch.zeros(len(joined), dtype=torch.bool)
        kept[order] = True
        for name, part in zip(names, kept.split([len(vectors[name]) for name in names]), strict=True):
            want = task[name].flatten() + torch.where(part, vectors[name], 0)
            torch.testing.assert_close(found[name].flatten(), want, atol=1e-6, rtol=0)


def test_filters_and_layer_gradients(xlmr, tmp_path):
    weight = [{"filter": "embeddings", "value": 0.0}, {"value": [0.0, 1.0]}]
    models = {"task": {"role": "task"}, "tgt": {"role": "target", "weight": weight}}
    found = tensors(merge(recipe(xlmr, models), tmp_path))
    task, target, base = (tensors(xlmr / name) for name in ("task", "tgt", "theta0"))
    for name in base.keys() & task.keys():
        factor = 1.0 if ".layer.1." in name else 0.0
        want = task[name] + factor * (target[name] - base[name])
        torch.testing.assert_close(found[name], want, atol=1e-6, rtol=0)


def test_slices_take_some_layers(xlmr, tmp_path):
    document = recipe(xlmr)
    document["slices"] = [{"sources": [entry | {"layer_range": [0, 1]} for entry in document.pop("models")]}]
    out = merge(document, tmp_path)
    assert load_without_gaps(out).config.num_hidden_layers == 1
    assert not any(".layer.1." in name for name in tensors(out))
    found = tensors(out)
    for name, value in expected(xlmr, {"src": 0.5, "tgt": 0.9}).items():
        if ".layer.1." not in name:
            torch.testing.assert_close(found[name].double(), value.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints_are_rounded_once(dtype, tmp_path):
    folder = build(tmp_path, "xlm-roberta", dtype=dtype)
    document = recipe(folder)
    del document["dtype"]
    out = merge(document, tmp_path)
    base, task = tensors(folder / "theta0"), tensors(folder / "task")
    source, target = tensors(folder / "src"), tensors(folder / "tgt")
    agree = []
    for name, value in tensors(out).items():
        assert value.dtype == dtype, name
        want = task[name]
        if name in base:
            b = base[name].float()
            want = task[name].float() + 0.5 * (source[name].float() - b) + 0.9 * (target[name].float() - b)
        assert (value.float() - want.float()).abs().max() <= 2.0**-7 * max(1, want.float().abs().max())
        agree.append((value == want.to(dtype)).flatten())
    # A sum that lies between two roundings may fall to either; rounding the inputs would change far more.
    assert torch.cat(agree).float().mean() > 0.99


def test_dtype_rounds_the_result_and_not_the_inputs(xlmr, tmp_path):
    found = tensors(merge(recipe(xlmr, dtype="bfloat16"), tmp_path))
    agree = []
    for name, value in expected(xlmr, {"src": 0.5, "tgt": 0.9}).items():
        assert found[name].dtype == torch.bfloat16
        agree.append((found[name] == value.to(torch.bfloat16)).flatten())
    assert torch.cat(agree).float().mean() > 0.999


def test_sharded_input_and_output_give_the_same_bytes_whatever_the_hash_seed(tmp_path):
    folder = build(tmp_path, "bert", shard="8KB")
    assert len(list((folder / "theta0").glob("*.safetensors"))) > 2
    outs = []
    for seed in ("1", "77"):
        run = lambda *a, seed=seed: console("mergekit-yaml", *a, PYTHONHASHSEED=seed)  # noqa: E731
        outs.append(merge(recipe(folder), tmp_path, "--out-shard-size", "20k", name=f"out{seed}", run=run))
    names = sorted(p.name for p in outs[0].iterdir())
    assert sum(name.endswith(".safetensors") for name in names) > 1
    _, different, missing = filecmp.cmpfiles(*outs, names, shallow=False)
    assert set(different) <= {"README.md"} and not missing
    assert (outs[0] / "README.md").read_text().replace("out1", "") == (
        outs[1] / "README.md"
    ).read_text().replace("out77", "")
    assert_merged(outs[0], folder, {"src": 0.5, "tgt": 0.9})
    load_without_gaps(outs[0])


def test_a_model_that_does_not_come_from_the_base_is_named(xlmr, tmp_path):
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    torch.manual_seed(5)
    random = {k: torch.randn_like(v) * v.std() for k, v in tensors(xlmr / "tgt").items()}
    save_file(random, stranger / "model.safetensors", metadata={"format": "pt"})
    (stranger / "config.json").write_text((xlmr / "tgt" / "config.json").read_text())
    document = recipe(xlmr, {"task": {"role": "task"}})
    document["models"].append({"model": str(stranger), "parameters": {"role": "target", "weight": 0.1}})
    path = tmp_path / "r.yml"
    path.write_text(yaml.safe_dump(document))
    outcome = mergekit_yaml(path, tmp_path / "out")
    assert outcome.code == 0
    warning = next(line for line in outcome.stderr.splitlines() if "does not seem to come from" in line)
    assert str(stranger) in warning and "times as large" in warning
    assert str(xlmr / "task") not in warning


def test_merging_again_replaces_the_weights_of_an_earlier_merge(xlmr, tmp_path):
    merge(recipe(xlmr), tmp_path, "--out-shard-size", "2k")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    out = merge(recipe(xlmr), tmp_path)
    assert [p.name for p in out.glob("model*")] == ["model.safetensors"]
    assert_merged(out, xlmr, {"src": 0.5, "tgt": 0.9})


def test_python_calls_agree_with_the_command(xlmr, tmp_path):
    from mergekit import merge_methods

    models = {name: tensors(xlmr / name) for name in ("theta0", "task", "src", "tgt")}
    shared = models["theta0"].keys() & models["task"].keys()
    merged = merge_methods.merge_state_dicts(
        {name: {k: v for k, v in state.items() if k in shared} for name, state in models.items()},
        "xlt_analogy",
        base="theta0",
        parameters={
            "role": {"task": "task", "src": "source", "tgt": "target"},
            "weight": {"task": None, "src": 0.5, "tgt": 0.9},
            "density": {"task": 1.0, "src": 0.3, "tgt": 0.3},
        },
    )
    document = recipe(
        xlmr,
        {
            "task": {"role": "task"},
            "src": {"role": "source", "weight": 0.5, "density": 0.3},
            "tgt": {"role": "target", "weight": 0.9, "density": 0.3},
        },
        method="xlt_analogy",
    )
    out = tensors(merge(document, tmp_path))
    for name in shared:
        torch.testing.assert_close(merged[name], out[name], atol=1e-6, rtol=0)
