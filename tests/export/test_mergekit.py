"""`taxlt export mergekit`: recipes and definitions that a mergekit without this package takes."""

import json
from pathlib import Path

import pytest
import torch
import transformers as tf
import yaml
from mergekit.architecture.json_definitions import JsonModuleArchitecture
from safetensors import safe_open
from safetensors.torch import load_file

from tests.helpers.families import build
from tests.helpers.hosts import console, forked
from tests.helpers.tiny_models import xlmr_tokenizer

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
MODELS = {
    "xlm-roberta-masked-lm": (tf.XLMRobertaForMaskedLM, tf.XLMRobertaConfig, {}),
    "xlm-roberta-sequence-classification": (
        tf.XLMRobertaForSequenceClassification,
        tf.XLMRobertaConfig,
        {"num_labels": 3},
    ),
    "xlm-roberta-token-classification": (tf.XLMRobertaForTokenClassification, tf.XLMRobertaConfig, {}),
    "electra-sequence-classification": (
        tf.ElectraForSequenceClassification,
        tf.ElectraConfig,
        {"embedding_size": 8},
    ),
    "electra-token-classification": (tf.ElectraForTokenClassification, tf.ElectraConfig, {}),
    "deberta-v2-sequence-classification": (
        tf.DebertaV2ForSequenceClassification,
        tf.DebertaV2Config,
        {**RELATIVE, "share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0},
    ),
    "deberta-v2-token-classification": (
        tf.DebertaV2ForTokenClassification,
        tf.DebertaV2Config,
        {**RELATIVE, "conv_kernel_size": 3, "embedding_size": 8, "type_vocab_size": 2},
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mergekit")
    done = forked("taxlt", "export", "mergekit", folder)
    assert (done.code, done.stdout) == (0, f"10 files written to {folder}\n"), done.stderr
    return folder


def test_nothing_in_it_needs_this_package(repository):
    for path in repository.rglob("*.*"):
        assert "taxlt" not in path.read_text(encoding="utf-8")
        assert "xlt_" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODELS)
def test_a_definition_names_every_tensor_of_its_models(repository, tmp_path, name):
    kind, config_kind, options = MODELS[name]
    config = config_kind(**SIZES, **options)
    kind(config).save_pretrained(tmp_path)
    text = (repository / f"mergekit/_data/architectures/{name}.json").read_text(encoding="utf-8")
    architecture = JsonModuleArchitecture(definition=json.loads(text))
    assert architecture.definition.architectures == [kind.__name__]
    assert architecture.definition.expected_model_type == config.model_type
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        present = set(file.keys())
    weights = architecture.all_weights(config)
    assert present <= {weight.name for weight in weights}
    assert {weight.name for weight in weights if not weight.optional} <= present


def test_there_is_a_definition_for_each_of_these(repository):
    names = {path.stem for path in (repository / "mergekit/_data/architectures").iterdir()}
    assert names == set(MODELS)


@pytest.mark.parametrize(
    ("example", "folders"),
    [
        ("chat-vector", {"instruct": 1.0, "continued": 1.0}),
        ("language-vectors", {"task": 1.0, "target": 0.5, "source": -0.5}),
    ],
)
def test_an_example_is_the_sum_that_it_says(repository, tmp_path, example, folders):
    """By mergekit's own command and method, in a process without this package."""
    models = build(tmp_path / "models", "llama", tokenizer=False)
    xlmr_tokenizer(["some words to build a vocabulary from"], 40).save_pretrained(models / "theta0")
    recipe = yaml.safe_load((repository / f"examples/{example}.yml").read_text(encoding="utf-8"))
    tiny = {"task": "task", "instruct": "task", "target": "tgt", "continued": "tgt", "source": "src"}
    recipe["base_model"] = str(models / "theta0")
    for entry, (name, weight) in zip(recipe["models"], folders.items(), strict=True):
        assert entry["parameters"]["weight"] == weight
        entry["model"] = str(models / tiny[name])
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(recipe))
    done = console("mergekit-yaml", tmp_path / "recipe.yml", tmp_path / "out", TAXLT_NO_AUTOLOAD="1")
    assert done.code == 0, done.stderr
    base = load_file(models / "theta0/model.safetensors")
    found = load_file(tmp_path / "out/model.safetensors")
    for name, start in base.items():
        expected = start.clone()
        for model, weight in folders.items():
            expected += weight * (load_file(models / tiny[model] / "model.safetensors")[name] - start)
        assert found[name].dtype == torch.bfloat16
        torch.testing.assert_close(found[name].float(), expected, atol=0.02, rtol=0.02)
        assert (found[name].float() - start).norm() > 0.5 * (expected - start).norm() or "norm" in name
    if example == "chat-vector":
        assert "<|start_header_id|>" in tf.AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
