"""Blocks of tokens: text tokenised once, joined and cut, kept on disk, and read in a seeded order with masks.

Documents are tokenised with the model's special tokens, joined, and cut into blocks of equal length. Which
block a model sees when, and which of its tokens are hidden, are functions of seed and position. Nothing here
draws from a global random generator, so a run that was stopped and goes on sees exactly the batches of one
that was not, and the validation masks are the same at every evaluation.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import datasets
import numpy as np
import torch
import tqdm
from transformers import TrainingArguments

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.files import PACKED
from taxlt_mergekit.train.console import is_main
from taxlt_mergekit.train.folder import clear_errors
from taxlt_mergekit.train.settings import LanguageSettings
from taxlt_mergekit.train.text import CorpusFacts, HeldOut, held_out, read_documents, survey

# Documents are tokenised together up to this many characters: enough for the tokenizer's own threads.
TOKENISED_TOGETHER = 1 << 18
UNKNOWN = 0.05  # share of the tokens from where on it is said
IGNORED = -100  # the label that transformers' losses leave out


def read_corpora(
    settings: LanguageSettings,
    tokenizer: Any,
    separator: int | None,
    seed: int,
    arguments: TrainingArguments,
) -> tuple[list[CorpusFacts], datasets.Dataset, datasets.Dataset]:
    """The facts of all corpora, and the blocks for training and for validation.

    Raises:
        UserError: a corpus cannot be read, or is too small for one block.
    """
    quiet = not is_main() or arguments.disable_tqdm
    column = settings.text_column

    def bar(what: str, total: int | None) -> Any:
        return tqdm.tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=quiet, leave=False)

    def blocks(of: Sequence[CorpusFacts], part: str, held: HeldOut) -> datasets.Dataset:
        with bar(f"tokenising, {part}", sum(entry.bytes + entry.documents for entry in of)) as progress:
            return cached_blocks(of, part, held, column, tokenizer, settings.block_size, separator, progress)

    with bar("reading", _size_on_disk(settings.corpus)) as progress:
        facts, smallest = survey(settings.corpus, column, seed, progress)
    if settings.validation is not None:
        others, _ = survey(settings.validation, column, seed)
        held = HeldOut(seed, -1)
    else:
        others = []
        held = held_out(settings.validation_share, seed, smallest)
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    with clear_errors(cache), arguments.main_process_first(local=True, desc="tokenising"):
        train = blocks(facts, "train", held)
        validation = blocks(others, "all", held) if others else blocks(facts, "validation", held)
    for part, rows in (("training", train), ("validation", validation)):
        if not len(rows):
            raise UserError(
                f"corpus {', '.join(settings.corpus)}: the {part} part is too small for one block of "
                f"{settings.block_size} tokens; a smaller --block-size may help"
            )
    return facts + others, train, validation


def _size_on_disk(names: Sequence[str]) -> int | None:
    """Bytes of plain files; None where a file is packed or a data set, and the text's size is not known."""
    plain = all(Path(name).is_file() and Path(name).suffix not in PACKED for name in names)
    return sum(Path(name).stat().st_size for name in names) if plain else None


def cached_blocks(
    facts: Sequence[CorpusFacts],
    part: str,
    held: HeldOut,
    text_column: str,
    tokenizer: Any,
    length: int,
    separator: int | None,
    bar: Any = None,
) -> datasets.Dataset:
    """The blocks of one part of the corpora, from the cache or made now, memory-mapped.

    Args:
        facts: the corpora, as `survey` gave them.
        part: `train` (every document not held out, whole blocks only), `validation` (those held out) or `all`
            (every document); the last two keep a shorter last block.
        held: which documents are held out.
        text_column, tokenizer, length, separator: as for `read_documents` and `token_blocks`.
        bar: a tqdm bar that is moved on by the bytes of text tokenised.

    Returns:
        A data set with the column `input_ids` (int32). It may have no rows.
    """
    recipe = [
        *(fact.sha256 for fact in facts),
        *asdict(held).values(),
        *(part, text_column, length, separator, tokenizer_hash(tokenizer), "1"),
    ]
    fingerprint = hashlib.sha256(repr(recipe).encode()).hexdigest()[:32]

    def rows() -> Iterator[dict[str, list[int]]]:
        for ids in token_blocks(chosen(), tokenizer, length, separator, keep_rest=part != "train"):
            yield {"input_ids": ids}

    def chosen() -> Iterator[str]:
        for fact in facts:
            for document in read_documents(fact.name, text_column):
                if bar is not None:
                    bar.update(len(document.encode()) + 1)
                if part == "all" or (document in held) == (part == "validation"):
                    yield document

    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    try:
        return datasets.Dataset.from_generator(rows, features=features, fingerprint=fingerprint)
    except ValueError as error:
        if "corresponds to no data" in str(error):
            return datasets.Dataset.from_dict({"input_ids": []}, features=features)
        raise
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, (UserError, OSError)):
            raise error.__cause__ from error
        raise


def unknown_share(blocks: datasets.Dataset, tokenizer: Any, most: int = 1000) -> float:
    """The share of tokens that stand for text which the tokenizer has no token for, in some of the blocks.

    A token for a blank alone counts as none: it stands before each unknown word.

    Args:
        blocks: with the column `input_ids`.
        tokenizer: 0 is returned where it has no token for the unknown alone.
        most: blocks that are looked at, from all over the text.
    """
    unknown = tokenizer.unk_token_id
    others = [getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "cls", "sep", "mask")]
    if unknown is None or unknown in others:
        return 0.0
    rows = np.linspace(0, len(blocks) - 1, min(len(blocks), most)).astype(int)
    tokens = np.concatenate([np.asarray(ids) for ids in blocks[rows]["input_ids"]])
    blanks = [token for token in tokenizer.convert_tokens_to_ids(["▁", "Ġ"]) if token != unknown]
    tokens = tokens[~np.isin(tokens, blanks + [token for token in others if token is not None])]
    return float((tokens == unknown).mean()) if len(tokens) else 0.0


def tokenizer_hash(tokenizer: Any) -> str:
    """What the cache knows a tokenizer by: its whole content, not its name."""
    content = (
        tokenizer.backend_tokenizer.to_str()
        if getattr(tokenizer, "backend_tokenizer", None) is not None
        else repr((type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), tokenizer.init_kwargs))
    )
    return hashlib.sha256(content.encode()).hexdigest()


def token_blocks(
    documents: Iterable[str], tokenizer: Any, length: int, separator: int | None, keep_rest: bool
) -> Iterator[list[int]]:
    """Tokenised documents, joined and cut.

    Args:
        documents: text.
        tokenizer: the model's tokenizer; its special tokens stand around each document.
        length: tokens a block.
        separator: a token that is added after each document unless it ends in it (a decoder's end of text).
        keep_rest: whether the tokens left at the end make a last, shorter block.

    Yields:
        Token ids, `length` of them.
    """
    tokens: list[int] = []
    for batch in _batches(documents):
        for ids in tokenizer(batch, add_special_tokens=True, return_attention_mask=False, verbose=False)[
            "input_ids"
        ]:
            tokens.extend(ids)
            if separator is not None and ids[-1:] != [separator]:
                tokens.append(separator)
        whole = len(tokens) - len(tokens) % length
        for start in range(0, whole, length):
            yield tokens[start : start + length]
        del tokens[:whole]
    if keep_rest and tokens:
        yield tokens


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= TOKENISED_TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Block(TypedDict):
    """One block on its way to the collator; `key` is what its masks are drawn from."""

    input_ids: np.ndarray
    key: tuple[int, ...]


class BlockStream(torch.utils.data.Dataset):
    """Blocks in the order of training: every block once, in a new order, then every block again.

    Args:
        blocks: a `datasets.Dataset` with the column `input_ids`.
        length: how many blocks the stream gives; any number, also more or less than there are blocks.
        seed: of the orders and of the masks.
        shuffle: False gives the blocks as they are (validation).
    """

    def __init__(self, blocks: Any, length: int, seed: int, shuffle: bool) -> None:
        self.blocks = blocks.with_format("numpy")
        self._length = length
        self._seed = seed
        self._shuffle = shuffle
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Block:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Block]:
        rows = self.blocks[[self._row(position) for position in positions]]["input_ids"]
        keys = [(self._seed, int(self._shuffle), int(position)) for position in positions]
        return [{"input_ids": ids, "key": key} for ids, key in zip(rows, keys, strict=True)]

    def _row(self, position: int) -> int:
        if not self._shuffle:
            return int(position)
        turn, at = divmod(int(position), len(self.blocks))
        if self._order is None or self._order[0] != turn:
            order = np.random.default_rng((self._seed, turn)).permutation(len(self.blocks)).astype(np.int32)
            self._order = (turn, order)
        return int(self._order[1][at])


class LanguageCollator:
    """Blocks to a batch of tensors, for masked or for next-token prediction.

    Args:
        tokenizer: gives the special tokens, the mask token and the padding.
        mlm_probability: the share of tokens to predict, or None for next-token prediction.
        kept: the only pieces that the model can predict, ascending; a label is a place among them.
    """

    def __init__(self, tokenizer: Any, mlm_probability: float | None, kept: np.ndarray | None = None) -> None:
        self._mlm_probability = mlm_probability
        self._special = np.array(sorted(tokenizer.all_special_ids))
        self._mask_id = tokenizer.mask_token_id
        self._pieces = np.arange(len(tokenizer)) if kept is None else kept
        self._is_cut = kept is not None
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def __call__(self, blocks: Sequence[Block]) -> dict[str, torch.Tensor]:
        longest = max(len(block["input_ids"]) for block in blocks)
        ids = np.full((len(blocks), longest), self._pad_id, dtype=np.int64)
        real = np.zeros((len(blocks), longest), dtype=bool)
        for row, block in enumerate(blocks):
            ids[row, : len(block["input_ids"])] = block["input_ids"]
            real[row, : len(block["input_ids"])] = True
        if self._mlm_probability is None:
            labels = np.where(real, ids, IGNORED)
        else:
            # Drawn token by token, so that a block's masks do not depend on the length of its neighbours.
            draws = np.stack([np.random.default_rng(block["key"]).random((longest, 3)) for block in blocks])
            draws = np.moveaxis(draws, -1, 0)
            maskable = real & ~np.isin(ids, self._special)
            ids, labels = mask_tokens(
                ids, maskable, draws, self._mlm_probability, self._mask_id, self._pieces
            )
        if self._is_cut:
            labels = np.where(labels == IGNORED, IGNORED, np.searchsorted(self._pieces, labels))
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }


def check_unknown(blocks: datasets.Dataset, tokenizer: Any, text: str, model: str) -> list[str]:
    """Refuse text that is nothing to a tokenizer, and warn where much of it is.

    Args:
        blocks: with the column `input_ids`.
        tokenizer: of the model.
        text: what was tokenised, for the message.
        model: its name.

    Raises:
        UserError: every token stands for text that the tokenizer does not know.
    """
    share = unknown_share(blocks, tokenizer)
    if share == 1:
        raise UserError(f"{text}: the tokenizer of {model} knows none of it, neither word nor letter")
    return [f"{share:.0%} of the tokens of {text} are unknown to the tokenizer"] if share >= UNKNOWN else []


def has_labels(stream: BlockStream, collate: LanguageCollator) -> bool:
    """Whether a stream's blocks, each once, give a model anything to predict.

    Args:
        stream: not empty.
        collate: draws the masks that training draws.
    """
    turn = min(len(stream), len(stream.blocks))
    return any(
        bool((collate(stream.__getitems__(range(at, min(at + 64, turn))))["labels"][:, 1:] != IGNORED).any())
        for at in range(0, turn, 64)
    )


def check_tokens(
    settings: LanguageSettings,
    tokenizer: Any,
    blocks: datasets.Dataset,
    streams: Mapping[str, BlockStream],
    collator: LanguageCollator,
) -> list[str]:
    """Refuse text that gives nothing to predict.

    Args:
        settings: name the text, for errors.
        tokenizer: the model's.
        blocks: for training.
        streams: by the name of their part.
        collator: draws the masks that training draws.

    Returns:
        A warning where the tokenizer knows little of the text, else nothing.

    Raises:
        UserError: no token can be predicted, or in one part none is.
    """
    text = f"corpus {', '.join(settings.corpus)}"
    warning = check_unknown(blocks, tokenizer, text, settings.model)
    for part, stream in streams.items():
        if not has_labels(stream, collator):
            raise UserError(
                f"{text}: the {part} part, {len(stream.blocks)} short blocks, has no token to predict; give "
                "more text, or a larger --validation-share or --mlm-probability"
            )
    return warning


def mask_tokens(
    ids: np.ndarray,
    maskable: np.ndarray,
    draws: np.ndarray,
    probability: float,
    mask_id: int,
    pieces: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masking (Devlin et al. 2019), which XLM-R keeps.

    Of the chosen tokens 80 % become the mask token, 10 % a random token, 10 % stay.

    Args:
        ids: token ids, any shape.
        maskable: the same shape, False where a token is special or padding.
        draws: uniform numbers in [0, 1), shape (3, *ids.shape): chosen or not, what becomes of it, and which.
        probability: the share of maskable tokens that is chosen.
        mask_id: the mask token.
        pieces: random tokens are some of these, shape (n,).

    Returns:
        The ids that the model sees, and the labels: the true id where a token was chosen, else `IGNORED`.
    """
    chosen = maskable & (draws[0] < probability)
    masked = chosen & (draws[1] < 0.8)
    replaced = chosen & (draws[1] >= 0.9)
    labels = np.where(chosen, ids, IGNORED)
    seen = np.where(masked, mask_id, ids)
    seen = np.where(replaced, pieces[(draws[2] * len(pieces)).astype(np.int64)], seen)
    return seen, labels
