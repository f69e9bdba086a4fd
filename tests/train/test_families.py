"""`taxlt train` on the families that multilingual users take: no tensor of θ₀ is lost or starts at random."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from tests.helpers.tiny_models import xlmr_tokenizer
from tests.helpers.training import refused, sentences, train

# A learning rate of nothing leaves every tensor as it was, so what changed was not taken from θ₀.
STILL = ("--max-steps", 2, "--batch-size", 8, "--learning-rate", 0)
SIZES = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    **{"max_position_embeddings": 70, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
}
DECODER = SIZES | {"num_key_value_heads": 1, "head_dim": 8}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
T5 |= {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
DISENTANGLED = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
DISENTANGLED |= {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION |= {"image_size": 28, "patch_size": 14}


@dataclass(frozen=True)
class Family:
    """A family's class of θ₀ and the sizes of its config; `head` is what of θ₀ is no part of a classifier."""

    base: type
    config: type
    sizes: dict[str, Any] = field(default_factory=lambda: SIZES)
    head: tuple[str, ...] = ()
    change: Callable[[Path], None] | None = None


def as_microsoft_publishes_it(folder: Path) -> None:
    """mDeBERTa-v3: a .bin file with one more head; a config without a word of heads or architectures."""
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors | {"mask_predictions.dense.weight": torch.ones(16, 16)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config.pop("legacy") is False and config.pop("architectures")
    (folder / "config.json").write_text(json.dumps(config))


MASKED = {
    "XLM-R, Glot500": Family(tf.XLMRobertaForMaskedLM, tf.XLMRobertaConfig, head=("lm_head.",)),
    "XLM-R XL": Family(tf.XLMRobertaXLForMaskedLM, tf.XLMRobertaXLConfig, head=("lm_head.",)),
    "mBERT": Family(tf.BertForMaskedLM, tf.BertConfig, head=("cls.",)),
    "mDeBERTa-v3": Family(
        tf.DebertaV2ForMaskedLM,
        tf.DebertaV2Config,
        SIZES | DISENTANGLED | {"legacy": False, "type_vocab_size": 0},
        ("lm_predictions.", "mask_predictions."),
        as_microsoft_publishes_it,
    ),
    "DeBERTa-v2 of transformers": Family(
        tf.DebertaV2ForMaskedLM, tf.DebertaV2Config, SIZES | DISENTANGLED, ("cls.",)
    ),
    "mmBERT": Family(
        tf.ModernBertForMaskedLM,
        tf.ModernBertConfig,
        SIZES | {"cls_token_id": 0, "sep_token_id": 2, "local_attention": 8, "sparse_prediction": True},
        ("decoder.",),  # `head.` is the classifier's too, and starts from θ₀'s
    ),
    "EuroBERT": Family(
        tf.EuroBertForMaskedLM,
        tf.EuroBertConfig,
        SIZES | {"num_key_value_heads": 1, "mask_token_id": 3},
        ("lm_head.",),
    ),
    "RemBERT": Family(
        tf.RemBertForMaskedLM,
        tf.RemBertConfig,
        SIZES | {"input_embedding_size": 8, "output_embedding_size": 24},
        ("cls.",),
    ),
    "X-MOD": Family(
        tf.XmodForMaskedLM, tf.XmodConfig, SIZES | {"languages": ["en_XX", "id_ID"]}, ("lm_head.",)
    ),
}
CAUSAL = {
    "Gemma 3": Family(tf.Gemma3ForCausalLM, tf.Gemma3TextConfig, DECODER),
    "Gemma 3 with vision": Family(
        tf.Gemma3ForConditionalGeneration,
        tf.Gemma3Config,
        {"text_config": DECODER, "vision_config": VISION, "mm_tokens_per_image": 4},
    ),
    "Qwen 3": Family(tf.Qwen3ForCausalLM, tf.Qwen3Config, DECODER, ("lm_head.",)),
    "Llama": Family(tf.LlamaForCausalLM, tf.LlamaConfig, DECODER, ("lm_head.",)),
}
HEADLESS = {
    "multilingual-e5": Family(tf.XLMRobertaModel, tf.XLMRobertaConfig, head=("pooler.",)),
    "LaBSE": Family(tf.BertModel, tf.BertConfig),
}
TEXT_TO_TEXT = {
    "mT5": Family(
        tf.MT5ForConditionalGeneration, tf.MT5Config, T5 | {"tie_word_embeddings": False}, ("lm_head.",)
    ),
    "umT5": Family(tf.UMT5ForConditionalGeneration, tf.UMT5Config, T5, ("lm_head.",)),
    "ByT5": Family(tf.T5ForConditionalGeneration, tf.T5Config, T5, ("lm_head.",)),
}
NLLB = Family(
    tf.M2M100ForConditionalGeneration,
    tf.M2M100Config,
    {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    | {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    },
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return xlmr_tokenizer(sentences(300), vocabulary=120)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> tuple:
    table = ["text\tlabel", *(f"{line}\t{'ab'[at % 2]}" for at, line in enumerate(sentences(24)))]
    path = tmp_path_factory.mktemp("rows") / "rows.tsv"
    path.write_text("\n".join(table), encoding="utf-8")
    return ("--train", path, "--validation", path, "--columns", "text", "--max-length", 32)


def save(family: Family, folder: Path, tokenizer: Any) -> dict[str, torch.Tensor]:
    """Save a random θ₀ with a tokenizer; returns its tensors."""
    vocabulary = {"vocab_size": len(tokenizer)}
    sizes = {
        key: value | vocabulary if key == "text_config" else value for key, value in family.sizes.items()
    }
    torch.manual_seed(0)
    model = family.base(family.config(**sizes if "text_config" in sizes else sizes | vocabulary))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    if family.change is not None:
        family.change(folder)
    return tensors


def assert_kept(base: dict[str, torch.Tensor], output: Path, prefix: str = "") -> None:
    """The output has θ₀'s tensors, bit by bit; of a headless θ₀ under the prefix of the model around it."""
    found = load_file(output / "model.safetensors")
    lost = [
        name
        for name, tensor in base.items()
        if not any(name in found and found[name].equal(tensor) for name in (name, prefix + name))
    ]
    assert not lost


@pytest.mark.parametrize("name", MASKED | CAUSAL)
def test_a_language_vector(name, tokenizer, small_text, tmp_path):
    family = (MASKED | CAUSAL)[name]
    base = save(family, tmp_path / "base", tokenizer)
    # X-MOD has an adapter of Indonesian, which `id` names.
    text = ("--corpus", small_text, "--lang", "id", "--block-size", 32, "--mlm-probability", 0.3)
    done = train(tmp_path / "base", *text, *STILL, "--output", tmp_path / "out")
    assert done.code == 0, done
    assert ("masked language modelling" if name in MASKED else "next-token prediction") in done.stdout
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == base.keys()
    assert_kept(base, tmp_path / "out")
    loaded, info = family.base.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(loaded).__name__ in loaded.config.architectures


@pytest.mark.parametrize("name", MASKED | CAUSAL | HEADLESS | TEXT_TO_TEXT)
def test_a_task_vector(name, tokenizer, rows, tmp_path):
    family = (MASKED | CAUSAL | HEADLESS | TEXT_TO_TEXT)[name]
    base = save(family, tmp_path / "base", tokenizer)
    # X-MOD's adapter is that of the task's source language.
    more = ("--task", "smsa", "--labels", "a,b") if name == "X-MOD" else ()
    done = train(tmp_path / "base", *rows, *more, *STILL, "--output", tmp_path / "out", kind="task")
    assert done.code == 0, done
    model, info = tf.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.id2label == {0: "a", 1: "b"}
    if name in CAUSAL:
        assert model.config.get_text_config().pad_token_id == tokenizer.pad_token_id
    body = {key: tensor for key, tensor in base.items() if not key.startswith(family.head or ("nothing",))}
    assert_kept(body, tmp_path / "out", f"{model.base_model_prefix}.")


@pytest.mark.parametrize("name", HEADLESS)
def test_a_sentence_encoder_has_no_head_to_go_on_with(name, tokenizer, small_text, tmp_path):
    base = save(HEADLESS[name], tmp_path / "base", tokenizer)
    arguments = (tmp_path / "base", "--corpus", small_text, "--block-size", 32, *STILL)
    message = refused(*arguments, "--output", tmp_path / "out")
    assert "has no masked-LM head" in message and "give --new-head" in message
    done = train(*arguments, "--new-head", "--output", tmp_path / "out")
    assert done.code == 0, done
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("new head")]
    head = {"multilingual-e5": "lm_head.dense.weight", "LaBSE": "cls.predictions.transform.dense.weight"}
    assert "started at random: " in said and head[name] in said
    assert said.split(maxsplit=2)[2] in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    prefix = tf.AutoModelForMaskedLM.from_pretrained(tmp_path / "out").base_model_prefix
    assert_kept({key: t for key, t in base.items() if "pooler" not in key}, tmp_path / "out", f"{prefix}.")


@pytest.mark.parametrize("name", [*TEXT_TO_TEXT, "NLLB"])
def test_encoder_decoders_have_no_such_language_vector(name, tokenizer, small_text, rows, tmp_path):
    save((TEXT_TO_TEXT | {"NLLB": NLLB})[name], tmp_path / "base", tokenizer)
    message = refused(tmp_path / "base", "--corpus", small_text, "--output", tmp_path / "out")
    assert "is an encoder-decoder" in message
    if name == "NLLB":
        message = refused(tmp_path / "base", *rows, "--output", tmp_path / "out", kind="task")
        assert message.endswith("(m2m_100) has no sequence-classification head in transformers")


def test_x_mod_needs_a_language_that_it_has(tokenizer, small_text, rows, tmp_path):
    save(MASKED["X-MOD"], tmp_path / "base", tokenizer)
    arguments = (tmp_path / "base", "--corpus", small_text, "--lang", "quy", "--output", tmp_path / "out")
    for message in (
        refused(*arguments),
        refused(tmp_path / "base", *rows, "--output", tmp_path / "out", kind="task"),
    ):
        assert "set default_language in its config.json to one of en_XX, id_ID" in message
    config = json.loads((tmp_path / "base" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"default_language": "en_XX"}))
    assert train(*arguments, *STILL, "--block-size", 32).code == 0


def test_a_checkpoint_with_half_a_body_is_refused(tokenizer, small_text, tmp_path):
    base = save(MASKED["mmBERT"], tmp_path / "base", tokenizer)
    del base["model.layers.1.mlp.Wi.weight"]
    save_file(base, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    message = refused(tmp_path / "base", "--corpus", small_text, "--output", tmp_path / "out")
    assert "is incomplete: its checkpoint lacks model.layers.1.mlp.Wi.weight" in message
