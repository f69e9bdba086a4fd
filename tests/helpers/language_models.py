"""Configurations of tiny language models, by transformers' name of the family (and a remark)."""

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3}
FAMILIES = {
    "albert": SIZES | {"embedding_size": 8},
    "bert": SIZES,
    "camembert": SIZES,
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2 as published": SIZES | {"relative_attention": True, "pos_att_type": ["c2p"], "legacy": False},
    "distilbert": {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "electra": SIZES | {"embedding_size": 8},
    "eurobert": SIZES | {"num_key_value_heads": 1} | TOKENS,
    "modernbert": SIZES | TOKENS,
    "modernbert sparse": SIZES | TOKENS | {"sparse_prediction": True, "local_attention": 8},
    "mpnet": SIZES,
    "rembert": SIZES | {"input_embedding_size": 8, "output_embedding_size": 24},
    "roberta": SIZES,
    "xlm": {"vocab_size": 60, "emb_dim": 16, "n_layers": 2, "n_heads": 2},
    "xlm-roberta": SIZES,
    "xlm-roberta-xl": SIZES,
    "xmod": SIZES | {"languages": ["en_XX", "de_DE"], "default_language": "de_DE"},
}
DECODER = SIZES | {"num_key_value_heads": 1, "head_dim": 8}
DECODERS = {
    "gemma3_text": DECODER,
    "gpt2": {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": DECODER,
    "qwen3": DECODER,
}
