"""Corpora of raw text: read as a stream of documents, counted, hashed, and a share of them held out.

A *document* is a non-blank line of a text file (plain, gzip or zstd, UTF-8) or a row of a Hugging Face data
set. The validation share is drawn by document, by a seeded hash of its text, so that repeated documents never
stand on both sides.
"""

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from taxlt_mergekit.errors import UserError, one_line

if TYPE_CHECKING:
    import datasets

# A longer line is cut at a blank, so that a file without line ends is not read as one string.
LONGEST_LINE = 1 << 20
HASH_BITS = 64
DATASET_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


@dataclass(frozen=True)
class CorpusFacts:
    """What is written about a corpus beside the checkpoint.

    `sha256` is that of the file's bytes, as `sha256sum` prints it, or for a data set of its documents, each
    followed by a line feed. `bytes` counts the documents' text in UTF-8.
    """

    name: str
    documents: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class HeldOut:
    """Which documents are validation: those whose `document_hash` is at most `threshold` (-1: none)."""

    seed: int
    threshold: int

    def __contains__(self, document: str) -> bool:
        return self.threshold >= 0 and document_hash(document, self.seed) <= self.threshold


def survey(
    names: Sequence[str], text_column: str, seed: int, bar: Any = None
) -> tuple[list[CorpusFacts], list[int]]:
    """Read every corpus once: count, check and hash it.

    Args:
        names: the corpora, as for `read_documents`.
        text_column: for data sets.
        seed: of `document_hash`.
        bar: a tqdm bar that is moved on by the bytes of text read.

    Returns:
        The facts of each corpus, and the two smallest different document hashes (fewer where there are fewer
        documents).

    Raises:
        UserError: as `read_documents`, or a corpus has no document.
    """
    facts = []
    smallest: list[int] = []
    for name in names:
        documents = size = 0
        digest = hashlib.sha256()
        for document in read_documents(name, text_column):
            text = document.encode()
            documents += 1
            size += len(text)
            digest.update(text + b"\n")
            mark = document_hash(document, seed)
            if len(smallest) < 2 or mark < smallest[-1]:
                smallest = sorted({*smallest, mark})[:2]
            if bar is not None:
                bar.update(len(text) + 1)
        if not documents:
            raise UserError(f"corpus {name} is empty: it has no line with text")
        sha256 = file_sha256(Path(name)) if Path(name).is_file() else digest.hexdigest()
        facts.append(CorpusFacts(name, documents, size, sha256))
    return facts, smallest


def held_out(share: float, seed: int, smallest: Sequence[int]) -> HeldOut:
    """Draw about `share` of the documents, at least one, and leave at least one.

    Args:
        share: 0 < share < 1.
        seed: as given to `survey`.
        smallest: the hashes that `survey` returned.

    Raises:
        UserError: there is only one document.
    """
    if len(smallest) < 2:
        raise UserError(
            "the corpus is one document (one line), so none can be held out; name other text with "
            "--validation, or put each paragraph on its own line"
        )
    return HeldOut(seed, max(int(share * 2**HASH_BITS), smallest[0]))


def document_hash(document: str, seed: int) -> int:
    """A number below 2^64, uniform over documents, the same for equal text and seed."""
    key = hashlib.blake2b(document.encode(), digest_size=HASH_BITS // 8, key=str(seed).encode()).digest()
    return int.from_bytes(key, "big")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_documents(name: str, text_column: str) -> Iterator[str]:
    """The documents of one corpus, in order, without blank ones.

    Args:
        name: a file, a folder of data files, or a Hugging Face data set id, `ID` or `ID:CONFIGURATION` (its
            split `train`).
        text_column: the column of a data set that holds the text.

    Raises:
        UserError: it is not there, binary, not UTF-8 (names file and line), or a damaged archive.
    """
    lines = _file_lines(Path(name)) if Path(name).is_file() else _dataset_rows(name, text_column)
    return (line for line in map(str.strip, lines) if line)


def _file_lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with path.open("rb") as raw, _unpack(raw) as stream:
            rest, starts = b"", True
            while piece := stream.readline(LONGEST_LINE):
                number += starts
                starts = piece.endswith(b"\n")
                line, rest = rest + piece, b""
                if len(line) >= LONGEST_LINE and not starts:
                    line, rest = _cut(line)
                yield _decode(line, path, number)
            if rest:
                yield _decode(rest, path, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: a damaged archive after line {number} ({error})") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # named here so that zstandard is imported for .zst alone
            raise UserError(f"{path}: a damaged archive after line {number} ({error})") from error
        raise


def _unpack(raw: Any) -> Any:
    magic = raw.read(4)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(raw)
    if magic == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Pieces(_unpack_zstd(raw)))
    return raw


def _unpack_zstd(raw: IO[bytes]) -> Iterator[bytes]:
    """All frames of a zstd file. zstandard's own reader takes a file that was cut off for a whole one."""
    import zstandard

    frame = None
    while packed := raw.read(1 << 14):
        while packed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(packed)
            packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame is not None:
        raise EOFError("the file ends in the middle of a frame")


class _Pieces(io.RawIOBase):
    """Bytes that come in pieces, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """A piece of an overlong line: up to its last blank, or else between two characters."""
    at = line.rfind(b" ") + 1
    if not at:
        at = len(line)
        while at > 1 and line[at - 1] & 0xC0 == 0x80:
            at -= 1
        at -= 1  # the character that starts here may go on in the next piece
    return line[:at], line[at:]


def _decode(line: bytes, path: Path, number: int) -> str:
    if b"\0" in line:
        raise UserError(
            f"{path}, line {number}: a NUL byte, so this is a binary file or UTF-16; a corpus is UTF-8 text, "
            "plain, .gz or .zst"
        )
    try:
        return line.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8; "
            "convert the file, for example with iconv -t UTF-8"
        ) from error


def _dataset_rows(name: str, text_column: str) -> Iterator[str]:
    dataset = _load_dataset(name)
    if text_column not in dataset.column_names:
        raise UserError(
            f"corpus {name} has no column {text_column!r}; its columns are {', '.join(dataset.column_names)} "
            "(choose with --text-column)"
        )
    for batch in dataset.select_columns([text_column]).iter(256):
        for text in batch[text_column]:
            if text is not None and not isinstance(text, str):
                raise UserError(f"corpus {name}: column {text_column!r} is not text")
            yield text or ""


def _load_dataset(name: str) -> "datasets.Dataset":
    import datasets

    is_folder = Path(name).is_dir()
    looks_like_a_file = name.startswith(("/", ".", "~")) or Path(name).suffix in (".txt", ".gz", ".zst")
    if not is_folder and (looks_like_a_file or not DATASET_ID.fullmatch(name)):
        raise UserError(f"corpus {name}: no such file")
    path, _, configuration = (name, "", "") if is_folder else name.partition(":")
    try:
        return datasets.load_dataset(path, configuration or None, split="train")
    except Exception as error:  # a dozen kinds, from no network to a data set that needs a script
        raise UserError(
            f"corpus {name} is not a file, and as a data set it could not be loaded "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
