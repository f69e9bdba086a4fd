"""The demo's untrained θ₀: a word-level tokenizer and a small ModernBERT with random weights, as a folder.

    python -m taxlt_mergekit.demo.model FOLDER SEED

ModernBERT, because it is an ordinary encoder of transformers that learns fast when small: it knows how far
apart two words are, not where in a block they stand, and its classifier reads the mean over all words.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from taxlt_mergekit.demo.world import vocabulary

BOS, PAD, EOS, UNKNOWN, MASK = SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
POSITIONS = 128


def write_untrained(folder: Path, words: Iterable[str], seed: int) -> None:
    """Write θ₀ before any training: config, tokenizer, random weights.

    Args:
        folder: where to; made if it is not there.
        words: the whole vocabulary, of all languages: a word that is never trained on is a random row, as
            the words of an unseen language are.
        seed: of the weights.
    """
    import torch
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    rows = {word: row for row, word in enumerate([*SPECIAL, *sorted(set(words))])}
    config = ModernBertConfig(
        vocab_size=len(rows),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        global_attn_every_n_layers=1,
        initializer_range=0.1,  # about 1/√64; the default is meant for models that are ten times wider
        initializer_cutoff_factor=3.0,
        classifier_pooling="mean",
        attn_implementation="sdpa",
        bos_token_id=rows[BOS],
        cls_token_id=rows[BOS],
        eos_token_id=rows[EOS],
        sep_token_id=rows[EOS],
        pad_token_id=rows[PAD],
    )
    torch.manual_seed(seed)
    ModernBertForMaskedLM(config).save_pretrained(folder)
    _tokenizer(rows).save_pretrained(folder)


def _tokenizer(rows: dict[str, int]) -> Any:
    """Words are what stands between blanks."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(rows, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, rows[BOS]), (EOS, rows[EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=BOS,
        cls_token=BOS,
        eos_token=EOS,
        sep_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        mask_token=MASK,
        model_max_length=POSITIONS,
    )


if __name__ == "__main__":
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    write_untrained(folder, vocabulary(seed), seed)
