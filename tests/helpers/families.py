"""Tiny random checkpoints of every family: θ₀, a task model and two language models that start from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from tests.helpers.tiny_models import xlmr_tokenizer

LABELS = ["entailment", "neutral", "contradiction"]
_SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}


@dataclass(frozen=True)
class Family:
    config: Callable[..., Any]
    base: type
    task: type


FAMILIES = {
    "xlm-roberta": Family(
        lambda **k: tf.XLMRobertaConfig(**_SIZES, type_vocab_size=1, **k),
        tf.XLMRobertaForMaskedLM,
        tf.XLMRobertaForSequenceClassification,
    ),
    "xlm-roberta-tokens": Family(
        lambda **k: tf.XLMRobertaConfig(**_SIZES, type_vocab_size=1, **k),
        tf.XLMRobertaForMaskedLM,
        tf.XLMRobertaForTokenClassification,
    ),
    "bert": Family(
        lambda **k: tf.BertConfig(**_SIZES, **k), tf.BertForMaskedLM, tf.BertForSequenceClassification
    ),
    "roberta": Family(
        lambda **k: tf.RobertaConfig(**_SIZES, **k),
        tf.RobertaForMaskedLM,
        tf.RobertaForSequenceClassification,
    ),
    "distilbert": Family(
        lambda **k: tf.DistilBertConfig(vocab_size=64, dim=16, n_layers=2, n_heads=2, hidden_dim=32, **k),
        tf.DistilBertForMaskedLM,
        tf.DistilBertForSequenceClassification,
    ),
    "deberta-v2": Family(
        lambda **k: tf.DebertaV2Config(
            **_SIZES, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], **k
        ),
        tf.DebertaV2ForMaskedLM,
        tf.DebertaV2ForSequenceClassification,
    ),
    "electra": Family(
        lambda **k: tf.ElectraConfig(**_SIZES, embedding_size=8, **k),
        tf.ElectraForMaskedLM,
        tf.ElectraForSequenceClassification,
    ),
    "electra-tokens": Family(
        lambda **k: tf.ElectraConfig(**_SIZES, embedding_size=8, **k),
        tf.ElectraForMaskedLM,
        tf.ElectraForTokenClassification,
    ),
    "llama": Family(lambda **k: tf.LlamaConfig(**_DECODER, **k), tf.LlamaForCausalLM, tf.LlamaForCausalLM),
    "llama-tied": Family(
        lambda **k: tf.LlamaConfig(**_DECODER, tie_word_embeddings=True, **k),
        tf.LlamaForCausalLM,
        tf.LlamaForCausalLM,
    ),
    "gemma3": Family(
        lambda **k: tf.Gemma3TextConfig(**_DECODER, **k), tf.Gemma3ForCausalLM, tf.Gemma3ForCausalLM
    ),
    "qwen3": Family(lambda **k: tf.Qwen3Config(**_DECODER, **k), tf.Qwen3ForCausalLM, tf.Qwen3ForCausalLM),
    "t5": Family(
        lambda **k: tf.T5Config(**_T5, **k), tf.T5ForConditionalGeneration, tf.T5ForConditionalGeneration
    ),
    "mt5": Family(
        lambda **k: tf.MT5Config(**_T5, tie_word_embeddings=False, **k),
        tf.MT5ForConditionalGeneration,
        tf.MT5ForConditionalGeneration,
    ),
}


def build(
    folder: Path,
    family: str,
    *,
    dtype: torch.dtype = torch.float32,
    shard: str = "5GB",
    tokenizer: bool = True,
) -> Path:
    """Save `theta0`, `task`, `src` and `tgt` under a folder; returns the folder."""
    kind = FAMILIES[family]
    torch.manual_seed(0)
    base = kind.base(kind.config())
    for parameter in base.parameters():
        # Zero biases would make vectors that are mostly zero; that case has tests of its own.
        parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    start = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    task = kind.task(kind.config(**({} if kind.task is kind.base else named)))
    _save(base, folder / "theta0", dtype, shard)
    for name, model in (("task", task), ("src", base), ("tgt", base)):
        for key, parameter in model.named_parameters():
            if key in start:
                parameter.data.copy_(start[key] + 0.01 * torch.randn_like(parameter))
        _save(model, folder / name, dtype, shard)
    if tokenizer:
        xlmr_tokenizer(["some words to build a vocabulary from"], 40).save_pretrained(folder / "task")
    return folder


def _save(model: Any, folder: Path, dtype: torch.dtype, shard: str) -> None:
    original = {name: parameter.data for name, parameter in model.named_parameters()}
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    for name, parameter in model.named_parameters():
        parameter.data = original[name]
