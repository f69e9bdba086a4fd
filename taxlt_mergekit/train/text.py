"""Corpora of raw text: read as a stream of documents, counted, hashed, and a share of them held out.

A *document* is a non-blank line of a text file, a row of a table or of JSON lines, or a row of a Hugging Face
data set. The validation share is drawn by document, by a seeded hash of its text, so that repeated documents
never stand on both sides.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.paper.files import file_kind, is_binary, read_json_lines, read_table, text_lines

if TYPE_CHECKING:
    import datasets

# A longer line is cut at a blank, so that a file without line ends is not read as one string.
LONGEST_LINE = 1 << 20
HASH_BITS = 64
DATASET_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
TABLES = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson", ".json")
COLUMNAR = (".parquet", ".arrow")
CHOOSE = " (choose with --text-column)"
# What lies beside data and is none: what people write about them, and the notes of the library `datasets`.
ABOUT_DATA = re.compile(r"(readme|licen[cs]e)(\.\w+)?", re.IGNORECASE)
NOTES_OF_DATASETS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class CorpusFacts:
    """What is written about a corpus beside the checkpoint.

    `sha256` is that of the file's bytes, as `sha256sum` prints it; for a folder that of what `sha256sum`
    prints for its files; for a data set of its documents, each followed by a line feed. `bytes` counts the
    documents' text in UTF-8.
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


@dataclass(frozen=True)
class CorpusFiles:
    """What of a corpus is read, in order, and what is not.

    Names are paths in the folder, or splits of a data set; those that are left out stand beside the reason.
    """

    read: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def corpus_files(name: str) -> CorpusFiles:
    """The files of a corpus.

    Of a folder all files at any depth, sorted, whatever their names, but those that are hidden, about the
    data, or binary. Of a data set the split `train`.

    Args:
        name: as for `read_documents`.

    Raises:
        UserError: a folder without a file that can be read, or as `read_documents`.
    """
    root = Path(name)
    if root.is_file():
        return CorpusFiles((name,), ())
    if not root.is_dir():
        splits = _load_dataset(name).info.splits or {}
        return CorpusFiles((name,), tuple((split, "a split") for split in splits if split != "train"))
    with translated(f"corpus {name} cannot be read"):
        why = {str(path.relative_to(root)): _why_left_out(path) for path in sorted(_below(root))}
    read = tuple(path for path, reason in why.items() if reason is None)
    left_out = tuple((path, reason) for path, reason in why.items() if reason)
    if not read:
        others = f" ({_named(left_out)})" if left_out else ""
        raise UserError(f"corpus {name}: the folder has no file of text{others}")
    return CorpusFiles(read, left_out)


def _below(root: Path) -> Iterator[Path]:
    """Files at any depth; hidden folders and links to folders as themselves."""

    def fail(error: OSError) -> None:
        raise error  # which os.walk would pass over

    for folder, folders, files in os.walk(root, onerror=fail):
        here = Path(folder)
        closed = [name for name in folders if name.startswith(".") or (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in closed]
        yield from (here / name for name in closed + files)


def _why_left_out(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "a link to a folder" if path.is_dir() else "no file"
    if ABOUT_DATA.fullmatch(path.name):
        return "about the data"
    if path.name in NOTES_OF_DATASETS:
        return "notes of the library datasets"
    return "binary" if file_kind(path) not in COLUMNAR and is_binary(path) else None


def corpus_notes(name: str) -> list[str]:
    """Lines that say which files of a folder are read, and what of a folder or a data set is not."""
    files = corpus_files(name)
    several = files.read != (name,)
    shown = ", ".join(files.read[:10]) + (" …" if len(files.read) > 10 else "")
    lines = [f"{name}: {len(files.read)} files, {shown}"] if several else []
    return lines + ([f"not read of {name}: {_named(files.left_out)}"] if files.left_out else [])


def _named(left_out: Sequence[tuple[str, str]]) -> str:
    """All names, by reason."""
    reasons = dict.fromkeys(why for _, why in left_out)
    return "; ".join(f"{', '.join(name for name, of in left_out if of == why)} ({why})" for why in reasons)


def survey(
    names: Sequence[str], text_column: str, seed: int, bar: Any = None
) -> tuple[list[CorpusFacts], list[int]]:
    """Read every corpus once: count, check and hash it.

    Args:
        names: the corpora, as for `read_documents`.
        text_column: of those that have columns.
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
        facts.append(CorpusFacts(name, documents, size, _corpus_sha256(name) or digest.hexdigest()))
    return facts, smallest


def _corpus_sha256(name: str) -> str | None:
    root = Path(name)
    if root.is_file():
        return file_sha256(root)
    if not root.is_dir():
        return None
    lines = [f"{file_sha256(root / file)}  {file}\n" for file in corpus_files(name).read]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
        name: a file (text, .csv, .tsv or JSON lines, each plain or packed, .parquet or .arrow), a folder of
            such files, or a Hugging Face data set id, `ID` or `ID:CONFIGURATION` (its split `train`).
        text_column: the column of a table or a data set that holds the text.

    Raises:
        UserError: it is not there, binary, in another encoding (names file and line), damaged, or has no such
            column.
    """
    root = Path(name)
    if root.is_dir():
        files = [root / file for file in corpus_files(name).read]
    else:
        files = [root] if root.is_file() else []
    texts: Iterable[Iterable[str]] = (_file_texts(file, text_column) for file in files)
    if not files:
        texts = [_dataset_texts(_load_dataset(name), name, text_column)]
    return (line for some in texts for text in some if (line := text.strip()))


def _file_texts(path: Path, text_column: str) -> Iterator[str]:
    kind = file_kind(path)
    if kind == ".parquet":
        return _parquet(path, text_column)
    if kind == ".arrow":
        import datasets

        with translated(f"{path} cannot be read"):
            return _dataset_texts(datasets.Dataset.from_file(str(path)), str(path), text_column)
    if kind not in TABLES + JSON_LINES:
        return _lines(path)
    read = read_table if kind in TABLES else read_json_lines
    rows = read(path, [text_column], hint=CHOOSE)
    return (_text(row[text_column], str(path), text_column) for row in rows)


def _lines(path: Path) -> Iterator[str]:
    rest = ""
    for _, piece in text_lines(path, longest=LONGEST_LINE):
        line, rest = rest + piece, ""
        if len(line) >= LONGEST_LINE and not line.endswith("\n"):
            at = line.rfind(" ") + 1 or len(line)
            line, rest = line[:at], line[at:]
        yield line.lstrip("\ufeff")
    yield rest


def _parquet(path: Path, text_column: str) -> Iterator[str]:
    import pyarrow.parquet

    with translated(f"{path} cannot be read"):
        file = pyarrow.parquet.ParquetFile(path)
        _check_column(file.schema_arrow.names, str(path), text_column)
        for batch in file.iter_batches(256, columns=[text_column]):
            for text in batch.column(0).to_pylist():
                yield _text(text, str(path), text_column)


def _dataset_texts(dataset: "datasets.Dataset", name: str, text_column: str) -> Iterator[str]:
    _check_column(dataset.column_names, name, text_column)
    for batch in dataset.select_columns([text_column]).iter(256):
        for text in batch[text_column]:
            yield _text(text, name, text_column)


def _check_column(names: Sequence[str], name: str, text_column: str) -> None:
    if text_column not in names:
        columns = ", ".join(names)
        raise UserError(f"corpus {name} has no column {text_column!r}; its columns are {columns}{CHOOSE}")


def _text(value: Any, name: str, text_column: str) -> str:
    if value is not None and not isinstance(value, str):
        raise UserError(f"corpus {name}: column {text_column!r} is not text, but has {value!r:.60}{CHOOSE}")
    return value or ""


@lru_cache(maxsize=8)
def _load_dataset(name: str) -> "datasets.Dataset":
    import datasets

    kinds = (".txt", *TABLES, *JSON_LINES, *COLUMNAR, ".gz", ".zst")
    looks_like_a_file = name.startswith(("/", ".", "~")) or Path(name).suffix.lower() in kinds
    if looks_like_a_file or not DATASET_ID.fullmatch(name):
        raise UserError(
            f"corpus {name}: no such file; give text, a document a line, or a data set of the hub, such as "
            "wikimedia/wikipedia:20231101.qu"
        )
    path, _, configuration = name.partition(":")
    with translated(f"corpus {name} is not a file, and as a data set it could not be loaded"):
        return datasets.load_dataset(path, configuration or None, split="train")
