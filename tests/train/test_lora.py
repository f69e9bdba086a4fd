"""A language vector as a peft adapter is the vector of its dense form."""

import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file

from tests.helpers.hosts import mergekit_yaml
from tests.helpers.training import SHORT, assert_same_weights, refused, signal_at, train


def adapter_run(model: Path, text: Path) -> tuple:
    """Arguments of a short run with an adapter."""
    return (model, "--corpus", text, "--lang", "xx", *SHORT, "--max-steps", 20, "--lora-rank", 4)


@pytest.fixture(scope="module")
def trained(small_xlmr, small_text, small_rows, tmp_path_factory) -> Path:
    """`adapter` and `dense`, the same run saved in both ways, and `task`."""
    folder = tmp_path_factory.mktemp("lora")
    arguments = adapter_run(small_xlmr, small_text)
    assert train(*arguments, "--output", folder / "adapter").code == 0
    assert train(*arguments, "--output", folder / "dense", "--merge-lora").code == 0
    few = ("--max-steps", 6, "--batch-size", 8, "--max-length", 48)
    assert train(small_xlmr, *small_rows, *few, "--output", folder / "task", kind="task").code == 0
    return folder


def test_the_folder_holds_an_adapter_and_says_so(trained, small_xlmr):
    files = {path.name for path in (trained / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= files
    assert "model.safetensors" not in files
    config = json.loads((trained / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == 4
    assert config["lora_alpha"] == 8
    card = (trained / "adapter" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"
    assert f"a peft adapter of rank 4, for mergekit `{small_xlmr}+{trained / 'adapter'}`" in card
    assert "a whole checkpoint" in (trained / "dense" / "README.md").read_text(encoding="utf-8")


def test_only_the_body_is_adapted(trained, small_xlmr):
    base, dense = (load_file(folder / "model.safetensors") for folder in (small_xlmr, trained / "dense"))
    assert base.keys() == dense.keys()
    changed = {name for name in base if not base[name].equal(dense[name])}
    assert changed
    assert all(name.startswith("roberta.encoder.") and name.endswith(".weight") for name in changed)
    # Each change has the adapter's rank at most.
    for name in changed:
        assert torch.linalg.matrix_rank((dense[name] - base[name]).double(), atol=1e-6) <= 4


def test_peft_and_mergekit_make_the_dense_form_of_it(trained, small_xlmr, tmp_path):
    from mergekit.common import ModelReference

    model = peft.PeftModel.from_pretrained(
        transformers.AutoModelForMaskedLM.from_pretrained(small_xlmr), trained / "adapter"
    )
    model.merge_and_unload().save_pretrained(tmp_path / "peft")
    assert_same_weights(trained / "dense", tmp_path / "peft")
    reference = ModelReference.parse(f"{small_xlmr}+{trained / 'adapter'}")
    merged = reference.merged(cache_dir=str(tmp_path / "cache"))
    assert_same_weights(trained / "dense", Path(merged.model.path))


def test_merging_the_adapter_is_merging_its_dense_form(trained, small_xlmr, tmp_path):
    """As docs/train.md says: `base+adapter` in a recipe, and --lora-merge-cache."""
    for name, model in {
        "adapter": f"{small_xlmr}+{trained / 'adapter'}",
        "dense": str(trained / "dense"),
    }.items():
        recipe = {
            "merge_method": "xlt_additive",
            "base_model": str(small_xlmr),
            "models": [
                {"model": str(trained / "task"), "parameters": {"role": "task"}},
                {"model": model, "parameters": {"role": "target", "weight": 0.9}},
            ],
            "dtype": "float32",
        }
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        done = mergekit_yaml(
            tmp_path / f"{name}.yml", tmp_path / name, "--lora-merge-cache", tmp_path / "cache", cwd=tmp_path
        )
        assert done.code == 0, done.stderr
    assert_same_weights(tmp_path / "dense", tmp_path / "adapter")


def test_a_stopped_adapter_run_goes_on_to_the_same_weights(
    trained, small_xlmr, small_text, tmp_path, monkeypatch
):
    arguments = adapter_run(small_xlmr, small_text)
    with monkeypatch.context() as patch:
        signal_at(patch, 9)
        assert train(*arguments, "--output", tmp_path / "out").code == 130
    assert train(*arguments, "--output", tmp_path / "out", "--resume").code == 0
    assert_same_weights(trained / "adapter", tmp_path / "out", "adapter_model.safetensors")


def test_layers_to_adapt(small_xlmr, small_text, tmp_path):
    arguments = (
        small_xlmr,
        "--corpus",
        small_text,
        *SHORT,
        "--max-steps",
        2,
        "--lora-rank",
        2,
        "--lora-alpha",
        5,
    )
    done = train(*arguments, "--lora-target-modules", "query", "value", "--output", tmp_path / "out")
    assert done.code == 0, done
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in tensors} == {"query", "value"}
    message = refused(*arguments, "--lora-target-modules", "q_proj", "--output", tmp_path / "none")
    assert "q_proj: the model has no such linear layer; it has dense, key, query, value" in message


def test_a_classifier_as_an_adapter_takes_its_head_along(small_xlmr, small_rows, tmp_path):
    few = ("--max-steps", 4, "--batch-size", 8, "--max-length", 48, "--lora-rank", 2)
    for name, flags in {"adapter": (), "dense": ("--merge-lora",)}.items():
        done = train(small_xlmr, *small_rows, *few, *flags, "--output", tmp_path / name, kind="task")
        assert done.code == 0, done
    base = transformers.AutoModelForSequenceClassification.from_pretrained(small_xlmr, num_labels=2)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
    dense = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "dense")
    assert dense.config.id2label == {0: "other", 1: "same"}
    ids = torch.arange(10)[None]
    assert torch.equal(model.eval()(ids).logits, dense.eval()(ids).logits)
