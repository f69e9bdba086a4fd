"""Records as lines of JSON in a file: a killed run loses no finished line."""

import codecs
import json
import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from taxlt_mergekit.errors import UserError, one_line

FORMAT = 1


class Part(BaseModel):
    """What is written down: fields as they are named, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(Part):
    """One line.

    Attributes:
        format: version of this layout.
        key: tells the record from others in the same file; a later one with it replaces an earlier.
    """

    format: Literal[1] = 1
    key: str


R = TypeVar("R", bound=Record)


def append_line(path: Path, record: Record) -> None:
    """Add a record to a file and wait until it is on the disk.

    The line goes out in one write at the end of the file. What an earlier, killed run left of an unfinished
    line is cut off first, and what a full disk took of this one after it: every line but possibly the last is
    whole.

    Raises:
        UserError: the folder or the file cannot be written.
    """
    line = (record.model_dump_json() + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            _cut_torn_line(file.fileno())
            try:
                written = 0
                while written < len(line):
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                _cut_torn_line(file.fileno())
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _cut_torn_line(descriptor: int) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    keep, block = end, 1 << 16
    while keep:
        start = max(0, keep - block)
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep < end:
        os.ftruncate(descriptor, keep)


def read_lines(path: Path, kind: type[R]) -> list[R]:
    """All records of a file, the last one of each key, in the order of their first appearance.

    A last line without its line end is what a kill leaves: it is dropped. A file that is not there has none.

    Raises:
        UserError: another format version, or a line that is no such record; names the file and the line.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: is UTF-16 text; save it as UTF-8, as taxlt wrote it")
    lines = text.removeprefix(codecs.BOM_UTF8).split(b"\n")[:-1]
    records: dict[str, R] = {}
    for number, line in enumerate(lines, start=1):
        record = _parse(line, f"{path}, line {number}", kind)
        records[record.key] = record
    return list(records.values())


def _parse(line: bytes, where: str, kind: type[R]) -> R:
    try:
        row = json.loads(line)
    except ValueError:
        raise UserError(f"{where}: not a line of JSON; remove it, and it is run again") from None
    version = row.get("format") if isinstance(row, dict) else None
    if version != FORMAT:
        raise UserError(
            f"{where}: results of format {version!r}, but this version reads format {FORMAT}; "
            "use another output folder, or the version that wrote it"
        )
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or kind.__name__.lower()
        raise UserError(f"{where}: {field}: {first['msg']}") from None
