"""What does not follow the rules of `tiny`: settings of single model types that must have other values."""

from typing import Any

# Settings that keep their default in every family.
KEPT = {"id2label", "label2id", "chunk_size_feed_forward", "dtype", "num_labels"}

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
_CROSS = {"is_decoder": True, "add_cross_attention": True}
_GEMMA4 = {"global_head_dim": 8, "num_kv_shared_layers": 0}

# Model type → settings.
VALUES: dict[str, dict[str, Any]] = {
    "apertus1p5": {"image_token_offset": 16, "audio_token_offset": 32},
    "apertus1p5_vision_tokenizer": {"codebook_size": 16},
    "bamba": _MAMBA | {"attn_layer_indices": [1]},
    "chameleon": {"vocabulary_map": {"<image>": 5}},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE}},
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0},
    },
    "deepseek_ocr2_sam_vision_model": {"downsample_channels": [16, 32]},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"]},
    "diffusion_gemma_text": _GEMMA4 | {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
    "dots3_note_text": {
        "num_key_value_heads": 4,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 8,
        "swa_kv_lora_rank": 8,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
    },
    "electra": {"embedding_size": 16},
    "emu3": {"vocabulary_map": {"<image>": 5}},
    "encoder-decoder": {"decoder": _CROSS},
    "ernie4_5_vl_moe_text": {
        "rope_parameters": _ROPE | {"mrope_section": [1, 1, 2]},
        "moe_intermediate_size": [16, 8],
    },
    "falcon_h1": _MAMBA | {"mamba_d_ssm": 64},
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "flint": {"mlp_only_layers": [0]},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "glm5_next_text": {"num_key_value_heads": 4, "index_topk": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite4_vision": {
        "deepstack_layer_map": [[0, 0], [1, 1]],
        "vision_config": {"hidden_size": 64},
        "downsample_rate": "4/8",
    },
    "granitemoehybrid": _MAMBA,
    "inkling2_loop_text": {
        "n_layers_per_attn_res_block": 1,
        "loop_layer_index_start": 1,
        "loop_layer_index_end": 2,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "luke": {"entity_emb_size": 16},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "molmo2_adapter": {"vision_feature_layer": [1, 0]},
    "muse_spark_audio": {"num_hidden_layers": 4, "hidden_sizes": [8, 16, 16, 32]},
    "neomme": {"head_dim": 16},
    "nemotron3_diarization": {"chunk_length": 8, "chunk_left_context": 2, "chunk_right_context": 2},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [8, 24]},
    "vibevoice_asr": {"acoustic_tokenizer_chunk_size": 3200},
    "vibevoice_acoustic_tokenizer_encoder": {"num_filters": 2, "depths": [1, 1, 1, 1, 1, 1, 1]},
    "vision-encoder-decoder": {"decoder": _CROSS},
    "wavtokenizer_encoder": {"codebook_size": 16},
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"]},
}

# Class → settings.
OF_CLASSES: dict[str, dict[str, Any]] = {"ReformerModelWithLMHead": {"is_decoder": True}}
