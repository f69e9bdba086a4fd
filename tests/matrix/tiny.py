"""A config of any model type, made so small that a model of it is built in milliseconds."""

import dataclasses
import math
import re
from typing import Any

from transformers import PretrainedConfig

from tests.matrix.exceptions import KEPT, VALUES

HIDDEN, HEADS, HEAD, VOCABULARY, LAYERS = 32, 4, 8, 64, 2

# The first pattern that a field's name matches says what its numbers become.
_RULES = [
    (r"^first_k_dense_replace$|^moe_layer_start_index$|_layer_offset$", 1),
    (r"_sparse_step$|_layer_period$|_layer_interval$|sliding_window_pattern$|every_n_layers$|_frequency$", 2),
    (r"_layers$|^layers$|^n_layers?$|^depth$|_num_layers$|_depth$|num_.*blocks$|n_blocks$", LAYERS),
    (r"(kv|key_value)_heads$|query_groups$", 2),
    (r"heads?$", HEADS),
    (r"head_size$|head_?dim$|^d_kv$|^kv_channels$|^d_head$|^dim_head$|_d_head$", HEAD),
    (r"lora_rank$|low_?rank$|_rank$|^d_rel$", HEAD),
    (r"vocab_size|codebook_size$|num_embeddings$|unpadded_vocab|vocab_size_base$|group_vocab$", VOCABULARY),
    (r"^num_experts$|n_routed_experts$|num_local_experts$|moe_num_experts$|zero_expert_num$", 4),
    (r"experts_per_tok|top_?k$|moe_k$", 2),
    (r"^n_group$|^topk_group$|expert_group$", 1),
    (r"max_.*position|n_positions|n_ctx|max_seq_len|context_length|position_embeddings$|_positions$", 64),
    (r"window|chunk_size$|chunk_length$|chunk_len|block_size$|local_attention$", 8),
    (r"intermediate|ffn|^d_ff$|^dff$|^dim_ff$|mlp_dim|feed_?forward|^d_inner$", 2 * HIDDEN),
    (r"hidden|d_model|n_embd|embed_dim|emb_dim|embd?_size|embedding_size|output_dim$", HIDDEN),
    (
        r"^dim$|^base_channels$|^lru_width$|embedding_dim$|projection_dim|proj_dim|projector|_dim$|d_latents|width$|input_size$",
        HIDDEN,
    ),
    (r"query_tokens$|num_latents$|n_latents$|query_num$|mel_bins$|_channels$|landmarks$|segment_means", 16),
]
_IDS = re.compile(r"(_id|_ids|_token_index|_token|_index)$")
_WHERE_NONE = {
    "head_dim": HEAD,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
}
_KINDS = re.compile(r"(layer_types|block_types|block_type|indexer_types|attn_layers)$")


def tiny_config(kind: type[PretrainedConfig], **settings: Any) -> PretrainedConfig:
    """A config of this class whose sizes are tiny and fit each other.

    Args:
        settings: what is not decided here; of a part that is a config itself, a dictionary of its settings.

    Raises:
        Exception: whatever the class raises where no exception in `exceptions` makes it fit.
    """
    fixed = VALUES.get(kind.model_type, {}) | settings
    default = vars(kind())
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        name = field.name
        resolved = default.get(kind.attribute_map.get(name, name))
        if isinstance(resolved, PretrainedConfig):
            given[name] = tiny_config(type(resolved), **fixed.get(name, {}))
        elif name in fixed:
            given[name] = fixed[name]
        elif name in KEPT or name.startswith("_"):
            continue
        elif _KINDS.search(name) and isinstance(resolved, list | tuple):
            given[name] = _one_of_each(resolved)
        elif name == "rope_parameters":
            if "section" in str(resolved):
                given[name] = _small_rope(resolved)
        elif resolved is None:
            if name in _WHERE_NONE:
                given[name] = _WHERE_NONE[name]
        elif (value := _default_of(field)) is not None:
            small = shrunk(name, value)
            if small is not value:
                given[name] = small
    extra = {name: value for name, value in fixed.items() if name not in given}
    return kind(**_fitting(given | extra))


def shrunk(name: str, value: Any) -> Any:
    """What a setting becomes; the very same object where it stays."""
    if isinstance(value, bool | str) or value is None:
        return value
    if _IDS.search(name):
        return _small_ids(value)
    if isinstance(value, list | tuple) and value and all(type(v) is int for v in value):
        small = [shrunk(name, v) for v in value]
        return value if small == list(value) else type(value)(small)
    if type(value) is not int:
        return value
    if name == "image_size" or name.endswith("_image_size"):
        return min(value, 32)
    if name == "patch_size":
        return min(value, 8)
    for pattern, size in _RULES:
        if re.search(pattern, name):
            return min(value, size)
    return value


def _default_of(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _one_of_each(kinds: list) -> list:
    """Two layers, or as many as there are kinds, in the order of their first occurrence."""
    found = list(dict.fromkeys(kinds))
    return found if len(found) >= LAYERS else list(kinds[:LAYERS])


def _fitting(given: dict[str, Any]) -> dict[str, Any]:
    """Kinds of layers are told for as many layers as there are."""
    kinds = {k: v for k, v in given.items() if _KINDS.search(k) and isinstance(v, list | tuple)}
    if kinds:
        layers = max(map(len, kinds.values()))
        for key, value in kinds.items():
            given[key] = [*value, *[value[-1]] * (layers - len(value))]
        for key in ("num_hidden_layers", "num_layers", "n_layer"):
            if key in given:
                given[key] = layers
    return given


def _small_ids(value: Any) -> Any:
    if type(value) is int:
        return value if value < VOCABULARY else 8 + value % (VOCABULARY - 8)
    if isinstance(value, list | tuple):
        return type(value)(_small_ids(v) for v in value)
    return value


def _small_rope(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    changed = {k: _small_rope(v) for k, v in value.items()}
    for key, sections in value.items():
        if "section" in key and isinstance(sections, list | tuple):
            total = HEAD // 2
            changed[key] = [total - (len(sections) - 1) * math.floor(total / len(sections))]
            changed[key] += [math.floor(total / len(sections))] * (len(sections) - 1)
    return changed
