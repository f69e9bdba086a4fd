"""Whatever files a model came in: old names, other formats and types, other heads or none, incomplete."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
import yaml
from safetensors.torch import save_file

from tests.helpers.families import build
from tests.helpers.hosts import mergekit_yaml
from tests.helpers.merging import assert_merged, load_without_gaps, merge, recipe, tensors

WEIGHTS = {"src": 0.5, "tgt": 0.9}


@pytest.fixture
def bert(tmp_path) -> Path:
    return build(tmp_path, "bert")


def rename(folder: Path, change) -> None:
    """Save a checkpoint anew, its tensors under other names."""
    renamed = {change(name): tensor for name, tensor in tensors(folder).items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **values) -> None:
    """Set keys of a model's config.json; None removes one."""
    config = json.loads((folder / "config.json").read_text()) | values
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def pickled(folder: Path, content: object, **options) -> None:
    """Put a `.bin` in the place of a model's weights."""
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin", **options)


def outcome_of(document: dict, tmp_path: Path, *flags: str):
    (tmp_path / "r.yml").write_text(yaml.safe_dump(document))
    return mergekit_yaml(tmp_path / "r.yml", tmp_path / "out", *flags)


def refused(document: dict, tmp_path: Path, *words: str, flags=()) -> None:
    outcome = outcome_of(document, tmp_path, *flags)
    assert outcome.code == 1 and "Traceback" not in outcome.stderr
    assert all(word in outcome.last_line for word in words), outcome.stderr
    assert not (tmp_path / "out").exists()


def test_old_layer_norm_names_and_checkpoints_without_prefix(bert, tmp_path):
    """Hub checkpoints of BERT say gamma and beta; sentence encoders are saved without `bert.`."""
    folder = bert
    for model, rename in (
        (
            "theta0",
            lambda k: k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ),
        ),
        ("tgt", lambda k: k.removeprefix("bert.")),
    ):
        renamed = {rename(k): v for k, v in tensors(folder / model).items()}
        save_file(renamed, folder / model / "model.safetensors", metadata={"format": "pt"})
    before = {m: tensors(folder / m) for m in ("task", "src")}
    out = tensors(merge(recipe(folder), tmp_path))
    base = {
        k.replace("gamma", "weight").replace("beta", "bias"): v for k, v in tensors(folder / "theta0").items()
    }
    target = tensors(folder / "tgt")
    for name in base.keys() & before["task"].keys():
        b = base[name].double()
        want = (
            before["task"][name]
            + 0.5 * (before["src"][name] - b)
            + 0.9 * (target[name.removeprefix("bert.")] - b)
        )
        torch.testing.assert_close(out[name].double(), want, atol=1e-6, rtol=0, msg=name)


def test_a_pooler_that_language_models_lack_is_kept_with_a_warning(bert, tmp_path):
    folder = bert
    base = tensors(folder / "theta0")
    task = tensors(folder / "task")
    for key in ("bert.pooler.dense.weight", "bert.pooler.dense.bias"):
        base[key] = torch.zeros_like(task[key])
    save_file(base, folder / "theta0" / "model.safetensors", metadata={"format": "pt"})
    path = tmp_path / "r.yml"
    path.write_text(yaml.safe_dump(recipe(folder)))
    outcome = mergekit_yaml(path, tmp_path / "out")
    assert outcome.code == 0 and "its vector counts as zero there" in outcome.stderr
    assert torch.equal(
        tensors(tmp_path / "out")["bert.pooler.dense.weight"], task["bert.pooler.dense.weight"]
    )


@pytest.mark.parametrize("form", ["plain", "parameters", "of 2019"])
def test_pickled_weights(form, bert, tmp_path):
    content = tensors(bert / "tgt")
    wanted = shutil.copytree(bert / "tgt", tmp_path / "same")
    if form == "parameters":
        content = {name: torch.nn.Parameter(tensor) for name, tensor in content.items()}
    pickled(bert / "tgt", content, _use_new_zipfile_serialization=form != "of 2019")
    out = tensors(merge(recipe(bert), tmp_path))
    shutil.rmtree(bert / "tgt")
    wanted.rename(bert / "tgt")
    same = tensors(merge(recipe(bert), tmp_path, name="out2"))
    assert out.keys() == same.keys() and all(torch.equal(out[name], same[name]) for name in out)


def test_files_that_are_no_weights(bert, tmp_path):
    good = tensors(bert / "tgt")
    pickled(bert / "tgt", {"state_dict": good, "epoch": 3})
    refused(recipe(bert), tmp_path, "tgt/pytorch_model.bin", "'state_dict'", "save_pretrained")
    torch.save(good | {"epoch": 3}, bert / "tgt" / "pytorch_model.bin")
    refused(recipe(bert), tmp_path, "tgt/pytorch_model.bin", "'epoch' is no tensor")
    torch.save(good, bert / "tgt" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    refused(recipe(bert), tmp_path, "tgt/pytorch_model.bin", "--lazy-unpickle", flags=["--lazy-unpickle"])
    whole = (bert / "tgt" / "pytorch_model.bin").read_bytes()
    (bert / "tgt" / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    refused(recipe(bert), tmp_path, "tgt", "damaged")


def test_every_type_of_number_at_once(tmp_path):
    folder = build(tmp_path, "bert")
    for model, dtype in (("theta0", torch.float32), ("src", torch.bfloat16), ("tgt", torch.float16)):
        converted = {name: tensor.to(dtype) for name, tensor in tensors(folder / model).items()}
        save_file(converted, folder / model / "model.safetensors", metadata={"format": "pt"})
    out = merge(recipe(folder), tmp_path)
    assert_merged(out, folder, WEIGHTS)
    assert {tensor.dtype for tensor in tensors(out).values()} == {torch.float32}


def test_shards_of_every_model(tmp_path):
    folder = build(tmp_path, "bert", shard="10KB")
    assert len(list((folder / "task").glob("*.safetensors"))) > 2
    assert_merged(merge(recipe(folder), tmp_path), folder, WEIGHTS)


def test_integers_of_the_task_model_stay_integers(bert, tmp_path):
    """Older versions of transformers saved the positions."""
    for model in ("theta0", "task", "tgt"):
        content = tensors(bert / model) | {"bert.embeddings.position_ids": torch.arange(40)[None]}
        save_file(content, bert / model / "model.safetensors", metadata={"format": "pt"})
    out = tensors(merge(recipe(bert, dtype="float16"), tmp_path))
    assert torch.equal(out["bert.embeddings.position_ids"], torch.arange(40)[None])
    assert out["bert.pooler.dense.weight"].dtype == torch.float16


@pytest.mark.parametrize("headless", [("theta0", "src", "tgt"), ("tgt",)], ids=["all", "one"])
def test_models_without_a_head(headless, bert, tmp_path):
    """Sentence encoders are saved as BertModel, with a pooler that no language model has trained."""
    wanted = tensors(merge(recipe(bert), tmp_path, name="wanted"))
    for model in headless:
        body = tf.BertModel.from_pretrained(bert / model)  # with a new, random pooler
        body.save_pretrained(bert / model)
    out = merge(recipe(bert), tmp_path)
    load_without_gaps(out)
    for name, tensor in tensors(out).items():
        if "pooler" not in name:
            assert torch.equal(tensor, wanted[name]), name
    if headless == ("tgt",):
        assert torch.equal(tensors(out)["bert.pooler.dense.weight"], wanted["bert.pooler.dense.weight"])


def test_a_base_whose_config_names_no_architecture_and_whose_heads_have_other_names(tmp_path):
    folder = build(tmp_path, "deberta-v2")
    wanted = tensors(merge(recipe(folder), tmp_path, name="wanted"))
    configure(folder / "theta0", architectures=None)
    rename(folder / "theta0", lambda name: name.replace("cls.predictions", "lm_predictions.lm_head"))
    out = tensors(merge(recipe(folder), tmp_path))
    assert out.keys() == wanted.keys() and all(torch.equal(out[name], wanted[name]) for name in out)


def test_names_that_another_library_wrapped(bert, tmp_path):
    wanted = tensors(merge(recipe(bert), tmp_path, name="wanted"))
    rename(bert / "theta0", lambda name: f"module.{name}")
    rename(bert / "tgt", lambda name: f"_orig_mod.{name}")
    out = tensors(merge(recipe(bert), tmp_path, name="unwrapped"))
    assert out.keys() == wanted.keys() and all(torch.equal(out[name], wanted[name]) for name in out)
    rename(bert / "task", lambda name: f"module.{name}")
    refused(recipe(bert), tmp_path, "task", "module.", "transformers would not find them")


def test_more_and_fewer_layers(tmp_path):
    folder = build(tmp_path / "two", "bert")
    config = tf.BertConfig.from_pretrained(folder / "tgt", num_hidden_layers=3)
    three = tf.BertForMaskedLM.from_pretrained(folder / "tgt", config=config)
    three.save_pretrained(tmp_path / "three")
    document = recipe(folder)
    document["models"][2]["model"] = str(tmp_path / "three")
    refused(document, tmp_path, "three", "encoder.layer.2.", "base_model", "lacks")
    config = tf.BertConfig.from_pretrained(folder / "task", num_hidden_layers=1)
    one = tf.BertForSequenceClassification.from_pretrained(folder / "task", config=config)
    one.save_pretrained(folder / "task")
    outcome = outcome_of(recipe(folder), tmp_path)
    warnings = [line for line in outcome.stderr.splitlines() if "no place in the task model" in line]
    assert outcome.code == 0 and len(warnings) == 2 and "encoder.layer.1." in warnings[0]


def test_a_larger_vocabulary_names_the_road(bert, tmp_path):
    larger = tf.BertForMaskedLM.from_pretrained(bert / "tgt")
    larger.resize_token_embeddings(70)
    larger.save_pretrained(bert / "tgt")
    refused(recipe(bert), tmp_path, "tgt", "shape [70,", "but [64,", "base_model", "tokenizer:")


def test_heads_with_the_same_names_stay_apart(tmp_path):
    """ModernBERT calls both the masked LM's and the classifier's head `head.dense`."""
    folder = build(tmp_path, "modernbert")
    head = tensors(folder / "task")["head.dense.weight"]
    assert "head.dense.weight" in tensors(folder / "theta0")
    out = tensors(merge(recipe(folder), tmp_path))
    assert torch.equal(out["head.dense.weight"], head)
