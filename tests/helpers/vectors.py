"""A tiny XLM-R θ₀ with random task and language vectors, in the folders that recipes name."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests.helpers.tiny_models import tiny_xlmr


def make_vectors(folder: Path, texts: list[str], labels: list[str], languages: list[str], task: str) -> Path:
    """Save θ₀ as `base` and the vectors' checkpoints under `vectors/base`; returns the folder."""
    base = tiny_xlmr(folder / "base", texts, dropout=0.0)
    start = AutoModelForMaskedLM.from_pretrained(base)
    tokenizer_files = [p for p in base.iterdir() if "token" in p.name]
    torch.manual_seed(1)
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config = XLMRobertaConfig.from_pretrained(base, **named)
    head = XLMRobertaForSequenceClassification(config)
    weights = dict(start.named_parameters())
    models = {f"task/{task}": head} | {f"lang/{code}": start for code in languages}
    original = {name: parameter.detach().clone() for name, parameter in weights.items()}
    for name, model in models.items():
        size = 0.02 if model is head else 0.004  # larger language vectors end in one label for all texts
        for key, parameter in model.named_parameters():
            if key in original:
                parameter.data.copy_(original[key] + size * torch.randn_like(parameter))
            else:
                parameter.data.add_(torch.randn_like(parameter))
        if model is head:
            spread_predictions(model, AutoTokenizer.from_pretrained(base), texts)
        target = folder / "vectors" / "base" / name
        model.save_pretrained(target)
        for file in tokenizer_files:
            (target / file.name).write_bytes(file.read_bytes())
    return folder


@torch.inference_mode()
def spread_predictions(model, tokenizer, texts: list[str]) -> None:
    """Have a random head predict every label about as often: with one label for all, all scores are equal."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    logits = model.eval()(**batch).logits
    model.classifier.out_proj.weight /= logits.std(0)[:, None]
    model.classifier.out_proj.bias.zero_()
    model.classifier.out_proj.bias -= model(**batch).logits.mean(0)
