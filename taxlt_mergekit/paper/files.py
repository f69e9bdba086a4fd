"""Text files as people have them, packed or not, and the rows in them.

Files are gzip, zstd or plain, known by their content, and UTF-8, with or without a byte-order mark. Another
encoding is refused with file, line and what it is, and never guessed at.
"""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.model_files import is_lfs_pointer

PACKED = (".gz", ".zst")
HEAD = 4096  # bytes that tell what a file is
# Of encodings that are not read. UTF-32's begins with UTF-16's.
OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Formats whose first bytes may pass for text.
BINARY = (b"%PDF", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x89PNG", b"\xff\xd8\xff")


def file_kind(path: Path) -> str:
    """The ending that says what is in a file, in lower case: `.csv` for `a.CSV` and for `a.csv.gz`."""
    inner = Path(path.stem) if path.suffix.lower() in PACKED else path
    return inner.suffix.lower()


def is_binary(path: Path) -> bool:
    """Whether a file, unpacked, begins with what no text has.

    Raises:
        UserError: it cannot be read, is a damaged archive, or declares another encoding.
    """
    with _unpacked(path) as (head, _):
        return head.startswith(BINARY) or b"\0" in head


def text_lines(path: Path, newline: str | None = None, longest: int = -1) -> Iterator[tuple[int, str]]:
    """A file's lines with their ends.

    Args:
        path: a file.
        newline: as for `open`: None makes every line end a line feed, an empty text leaves them as they are.
        longest: a longer line comes in pieces of so many characters.

    Yields:
        The line's number, from 1, and its text.

    Raises:
        UserError: it cannot be read, is binary, damaged, or in another encoding; names file and line.
    """
    number, starts = 0, True
    with _unpacked(path) as (_, stream):
        # Bytes that are no UTF-8 are kept as they are and found below, where the line is known.
        options: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape"}
        text = io.TextIOWrapper(stream, newline=newline, **options)
        while piece := text.readline(longest):
            number += starts
            starts = piece.endswith(("\n", "\r"))
            _refuse_other_encodings(piece, path, number)
            yield number, piece


def _refuse_other_encodings(line: str, path: Path, number: int) -> None:
    if "\0" in line:
        raise UserError(
            f"{path}, line {number}: a NUL byte, so this is a binary file or UTF-16; UTF-8 text is due, "
            "plain, .gz or .zst"
        )
    try:
        line.encode()
    except UnicodeEncodeError as error:
        at = len(line[: error.start].encode()) + 1
        byte = ord(line[error.start]) & 0xFF
        raise UserError(
            f"{path}, line {number}: byte {at} (0x{byte:02x}) is not UTF-8; convert the file, for example "
            "with iconv -t UTF-8"
        ) from error


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[tuple[bytes, io.BufferedReader]]:
    """A file's first bytes, and all of it as a stream, unpacked."""
    with translated(f"{path} cannot be read"), path.open("rb") as raw:
        if is_lfs_pointer(str(path)):
            raise UserError(f"{path} is a Git-LFS pointer, not the file itself; fetch it with git lfs pull")
        magic = raw.read(4)
        raw.seek(0)
        pieces = _pieces(raw, magic, path)
        head = b""
        while len(head) < HEAD and (piece := next(pieces, b"")):
            head += piece
        if other := next((name for mark, name in OTHER_MARKS.items() if head.startswith(mark)), None):
            raise UserError(
                f"{path}, line 1: {other}, as its byte-order mark says; convert the file, for example with "
                f"iconv -f {other} -t UTF-8"
            )
        yield head, io.BufferedReader(_Pieces(itertools.chain([head] if head else [], pieces)))


def _pieces(raw: IO[bytes], magic: bytes, path: Path) -> Iterator[bytes]:
    if magic == b"\x28\xb5\x2f\xfd":
        yield from _unpack_zstd(raw, path)
        return
    stream: Any = gzip.GzipFile(fileobj=raw) if magic[:2] == b"\x1f\x8b" else raw
    try:
        while piece := stream.read(1 << 16):
            yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error


def _unpack_zstd(raw: IO[bytes], path: Path) -> Iterator[bytes]:
    """All frames of a zstd file. zstandard's own reader takes a file that was cut off for a whole one."""
    import zstandard  # for .zst alone

    frame = None
    try:
        while packed := raw.read(1 << 14):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                if piece := frame.decompress(packed):
                    yield piece
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    except zstandard.ZstdError as error:
        raise _damaged(path, error) from error
    if frame is not None:
        raise _damaged(path, "it ends in the middle of a frame")


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path}: a damaged archive ({why})")


class _Pieces(io.RawIOBase):
    """Bytes that come in pieces, none of them empty, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._pieces, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def read_table(
    path: Path, columns: Sequence[str], header: bool = True, hint: str = ""
) -> Iterator[dict[str, str]]:
    """The named columns of a table, row by row: `.csv` with quotes, anything else as TSV without.

    Blank lines, and those that have separators alone, are no rows.

    Args:
        path: the file, as `text_lines` reads it.
        columns: with a header, the columns wanted; without one, the names of all columns in order.
        header: whether the first line names the columns.
        hint: added where a column is missing.

    Raises:
        UserError: a column is missing or there twice, a row has another number of fields, or the file is no
            text.
    """
    csv.field_size_limit((1 << 31) - 1)  # 131,072 characters otherwise, which one long article has
    style: dict[str, Any] = (
        {} if file_kind(path) == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
    )
    lines = csv.reader((line for _, line in text_lines(path, newline="")), strict=True, **style)
    rows = (row for row in lines if any(cell.strip() for cell in row))
    try:
        names = next(rows, []) if header else list(columns)
        for name in columns:
            if names.count(name) != 1:
                wrong = f"the column {name!r} twice" if name in names else f"no column {name!r}"
                raise UserError(f"{path} has {wrong}; its columns are {', '.join(names)}{hint}")
        at = {name: names.index(name) for name in columns}
        for row in rows:
            if len(row) != len(names):
                raise UserError(
                    f"{path}, line {lines.line_num}: {len(row)} fields where {len(names)} are due"
                )
            yield {name: row[index] for name, index in at.items()}
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: {error}") from error


def read_json_lines(path: Path, columns: Sequence[str], hint: str = "") -> Iterator[dict[str, Any]]:
    """The named fields of a file with one JSON object a line, as `text_lines` reads it.

    Args:
        path: the file.
        columns: the fields.
        hint: added where a field is missing.

    Raises:
        UserError: a line is not such an object, or a field is missing or holds half a character; names file
            and line.
    """
    for number, line in text_lines(path):
        line = line.strip("\ufeff \t\n")
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON, one object a line ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object with the fields {', '.join(columns)}")
        if missing := [name for name in columns if name not in row]:
            fields = ", ".join(row)
            raise UserError(
                f"{path}, line {number}: no field {missing[0]!r}; its fields are {fields:.200}{hint}"
            )
        found = {name: row[name] for name in columns}
        if "\\u" in line:
            _refuse_half_characters(found, path, number)
        yield found


def _refuse_half_characters(row: dict[str, Any], path: Path, number: int) -> None:
    """JSON can write the one half of a surrogate pair, where a text was cut inside an emoji say."""
    for name, value in row.items():
        half = next((letter for letter in str(value) if "\ud800" <= letter <= "\udfff"), None)
        if half is not None:
            raise UserError(
                f"{path}, line {number}: {name!r} holds half a character (\\u{ord(half):04x}); "
                "remove it, or write the whole one"
            )
