"""Tiny random checkpoints of the families that tests of other things need; `tests.matrix` has all of them."""

from pathlib import Path

import torch

from tests.helpers.tiny_models import xlmr_tokenizer
from tests.matrix import checkpoints
from tests.matrix.cases import SAME, Case

LABELS = list(checkpoints.LABELS)
_FAMILIES = {
    "xlm-roberta": Case(
        "xlm-roberta", "sequences", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"
    ),
    "bert": Case("bert", "sequences", "BertForMaskedLM", "BertForSequenceClassification"),
    "deberta-v2": Case(
        "deberta-v2", "sequences", "DebertaV2ForMaskedLM", "DebertaV2ForSequenceClassification"
    ),
    "modernbert": Case(
        "modernbert", "sequences", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"
    ),
    "electra": Case("electra", "sequences", "ElectraForMaskedLM", "ElectraForSequenceClassification"),
    "llama": Case("llama", SAME, "LlamaForCausalLM", "LlamaForCausalLM"),
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
    with torch.no_grad():
        checkpoints.build(_FAMILIES[family], folder, dtype=dtype, shard=shard)
    if tokenizer:
        xlmr_tokenizer(["some words to build a vocabulary from"], 40).save_pretrained(folder / "task")
    return folder
