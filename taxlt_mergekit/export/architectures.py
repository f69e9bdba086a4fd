"""Encoder architectures that mergekit has no definition of, in the form of its JSON files.

mergekit falls back to inferring such an architecture from the checkpoints' tensors. A definition says which
tensors there are, which may be missing, which are tied, and which are indexed by tokens.
"""

import json
from collections.abc import Iterable
from typing import Any

_LAYER = "${layer_index}"


def definition_files() -> dict[str, str]:
    """File name → text, a file for each architecture; a family's files share its body."""
    files = {}
    for name, (model_type, classes, body, head) in {**_xlm_roberta(), **_electra(), **_deberta_v2()}.items():
        before, layer, after = body
        definition = {
            "model_type": model_type,
            "architectures": classes,
            "pre_weights": before,
            "num_layers_config_key": "num_hidden_layers",
            "layer_templates": {"weights": layer},
            "post_weights": [*after, *head],
        }
        files[f"{name}.json"] = json.dumps(definition, indent=4) + "\n"
    return files


def _weight(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name} | more


def _pair(name: str, **more: Any) -> list[dict[str, Any]]:
    """A module's weight and bias."""
    return [_weight(f"{name}.{part}", **more) for part in ("weight", "bias")]


def _pairs(prefix: str, names: Iterable[str], **more: Any) -> list[dict[str, Any]]:
    return [weight for name in names for weight in _pair(f"{prefix}{name}", **more)]


def _bert_body(prefix: str, optional: Iterable[str] = ()) -> tuple[list, list, list]:
    """Embeddings, one layer, and what follows, of encoders built like BERT."""
    embeddings = [
        _weight(f"{prefix}.embeddings.word_embeddings.weight", vocabulary_axis=0),
        _weight(f"{prefix}.embeddings.position_embeddings.weight"),
        _weight(f"{prefix}.embeddings.token_type_embeddings.weight"),
        *_pair(f"{prefix}.embeddings.LayerNorm"),
        _weight(f"{prefix}.embeddings.position_ids", optional=True, force_dtype="int64"),
    ]
    modules = (
        *("attention.self.query", "attention.self.key", "attention.self.value"),
        *("attention.output.dense", "attention.output.LayerNorm"),
        *("intermediate.dense", "output.dense", "output.LayerNorm"),
    )
    return (
        embeddings,
        _pairs(f"{prefix}.encoder.layer.{_LAYER}.", modules),
        _pairs(prefix, optional, optional=True),
    )


def _xlm_roberta() -> dict[str, tuple]:
    body = _bert_body("roberta", [".pooler.dense"])
    embedding = "roberta.embeddings.word_embeddings.weight"
    masked_lm = [
        _weight("lm_head.bias", vocabulary_axis=0),
        *_pairs("lm_head.", ("dense", "layer_norm")),
        _weight("lm_head.decoder.weight", vocabulary_axis=0, optional=True, tied_names=[embedding]),
        _weight("lm_head.decoder.bias", vocabulary_axis=0, optional=True, tied_names=["lm_head.bias"]),
    ]
    heads = {
        "masked-lm": ("XLMRobertaForMaskedLM", masked_lm),
        "sequence-classification": (
            "XLMRobertaForSequenceClassification",
            _pairs("classifier.", ("dense", "out_proj")),
        ),
        "token-classification": ("XLMRobertaForTokenClassification", _pair("classifier")),
    }
    return {
        f"xlm-roberta-{name}": ("xlm-roberta", [kind], body, head) for name, (kind, head) in heads.items()
    }


def _electra() -> dict[str, tuple]:
    body = _bert_body("electra")
    body[0].extend(_pair("electra.embeddings_project", optional=True))
    heads = {
        "sequence": ("ElectraForSequenceClassification", _pairs("classifier.", ("dense", "out_proj"))),
        "token": ("ElectraForTokenClassification", _pair("classifier")),
    }
    return {
        f"electra-{name}-classification": ("electra", [kind], body, head)
        for name, (kind, head) in heads.items()
    }


def _deberta_v2() -> dict[str, tuple]:
    embeddings = [
        _weight("deberta.embeddings.word_embeddings.weight", vocabulary_axis=0),
        _weight("deberta.embeddings.position_embeddings.weight", optional=True),
        _weight("deberta.embeddings.token_type_embeddings.weight", optional=True),
        *_pair("deberta.embeddings.LayerNorm"),
        _weight("deberta.embeddings.embed_proj.weight", optional=True),
        _weight("deberta.embeddings.position_ids", optional=True, force_dtype="int64"),
    ]
    layer = f"deberta.encoder.layer.{_LAYER}."
    modules = (
        *("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        *("attention.output.dense", "attention.output.LayerNorm"),
        *("intermediate.dense", "output.dense", "output.LayerNorm"),
    )
    positions = ("attention.self.pos_key_proj", "attention.self.pos_query_proj")
    weights = _pairs(layer, modules) + _pairs(layer, positions, optional=True)
    after = [
        _weight("deberta.encoder.rel_embeddings.weight", optional=True),
        *_pairs("deberta.encoder.", ("LayerNorm", "conv.conv", "conv.LayerNorm"), optional=True),
    ]
    heads = {
        "sequence": ("DebertaV2ForSequenceClassification", _pairs("", ("pooler.dense", "classifier"))),
        "token": ("DebertaV2ForTokenClassification", _pair("classifier")),
    }
    return {
        f"deberta-v2-{name}-classification": ("deberta-v2", [kind], (embeddings, weights, after), head)
        for name, (kind, head) in heads.items()
    }
