"""Labelled rows from the Hugging Face hub or, where `TAXLT_DATA` names a directory, from the files there.

Both roads give the same rows and the same columns: the benchmark's inputs as strings, then `label`, a
`datasets.ClassLabel` in the order of `catalog.yaml`. Labels are matched by name, never by number, because
corpora count in different orders (SMSA starts at positive, NusaX at negative).

Layout of `TAXLT_DATA`, as the original downloads unpack (patterns: `files` in `catalog.yaml`)::

    americasnli/{dev,test}/CODE.tsv               header id, language, premise, hypothesis, label
    nusax/LANGUAGE/{train,valid,test}.csv         header id, text, label
    xnli/{dev,test}-CODE.tsv                      header premise, hypothesis, label
    xnli/xnli.{dev,test}.tsv                      XNLI 1.0 as published, all languages in one file
    marc/dataset_CODE_{train,dev,test}.json       MARC as published, one JSON object a line
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxlt_mergekit.errors import UserError, translated
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.files import read_json_lines, read_table

if TYPE_CHECKING:
    import datasets

LAYOUT = "layout: docs/evaluate.md"
# XNLI 1.0 and MultiNLI as published carry these names in place of ours.
XNLI_COLUMNS = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
MARC_COLUMNS = {"title": "review_title", "body": "review_body", "stars": "stars"}


def data_dir() -> Path | None:
    """The directory that `TAXLT_DATA` names, or None where it is not set.

    Raises:
        UserError: it names something that is not a directory.
    """
    value = os.environ.get("TAXLT_DATA")
    if not value:
        return None
    if not Path(value).is_dir():
        raise UserError(
            f"TAXLT_DATA={value} is not a directory; set it to the folder of your data ({LAYOUT})"
        )
    return Path(value)


def find_file(patterns: Sequence[str], what: str, layout: str = LAYOUT, on_hub: bool = True) -> Path:
    """The first of `patterns` (paths relative to `TAXLT_DATA`) that is there.

    Args:
        what: what it holds, for the error.
        layout: where the files are described, for the error.
        on_hub: the rows come from the hub where `TAXLT_DATA` is not set.

    Raises:
        UserError: none is there; names the directory, the files and `what` needs them.
    """
    root = data_dir()
    if root is None:
        raise UserError(f"{what}: set TAXLT_DATA=DIR, with {' or '.join(patterns)} in DIR ({layout})")
    for pattern in patterns:
        if (root / pattern).is_file():
            return root / pattern
    hub = "; unset TAXLT_DATA takes the hub's" if on_hub else ""
    raise UserError(
        f"{what}: TAXLT_DATA={root} has no {' or '.join(patterns)} ({layout}); taxlt info lists what is "
        f"missing{hub}"
    )


def hub_rows(path: str, what: str, layout: str = LAYOUT, **options: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a data set of the hub, with labels by name, and `-` where a row has none.

    Args:
        path, options: as for `datasets.load_dataset`.
        what: what they are, for the error.
        layout: where the files are described that can be read in their place, for the error.

    Raises:
        UserError: the hub did not give it.
    """
    import datasets

    hint = f"(go online, or set TAXLT_DATA=DIR to read files; {layout})"
    with translated(f"{what}: the hub did not give it", hint):
        rows = datasets.load_dataset(path, **options)
        label = rows.features["label"]
    if not isinstance(label, datasets.ClassLabel):
        return iter(rows)
    return ({**row, "label": _name(label, row["label"])} for row in rows)


def _name(label: "datasets.ClassLabel", number: int | None) -> str:
    return "-" if number is None or number < 0 else label.int2str(number)


def binarise_reviews(rows: Iterable[Mapping[str, Any]], where: object) -> Iterator[dict[str, str]]:
    """MARC's reviews as the paper's appendix B has them: 1 and 2 stars negative, 4 and 5 positive, no 3.

    Args:
        rows: reviews with `review_title`, `review_body` and `stars` (a number or its string).
        where: the file or data set, for the error.

    Returns:
        Rows with `title`, `body` and `label`.
    """
    names = {"1": "negative", "2": "negative", "4": "positive", "5": "positive"}
    for number, row in enumerate(rows, 1):
        stars = str(row[MARC_COLUMNS["stars"]])
        if stars == "3":
            continue
        if stars not in names:
            raise UserError(f"{where}, review {number}: stars are 1 to 5, not {stars!r}")
        yield {
            "title": row[MARC_COLUMNS["title"]],
            "body": row[MARC_COLUMNS["body"]],
            "label": names[stars],
        }


def labelled(
    rows: Iterable[Mapping[str, Any]], inputs: Sequence[str], labels: Sequence[str], where: object
) -> "datasets.Dataset":
    """Rows with label names as a data set with the columns `inputs` and `label` (a `ClassLabel`).

    Args:
        rows: mappings with the input columns (text) and `label` (a name, in any case).
        inputs: the input columns to keep, in order.
        labels: the label names; their order numbers the labels.
        where: the file or data set that the rows are from, for errors.

    Raises:
        UserError: there are no rows, a label is none of `labels`, or a text is missing; names `where` and
            the row.
    """
    import datasets

    columns: dict[str, list] = {name: [] for name in (*inputs, "label")}
    numbers = {label: number for number, label in enumerate(labels)}
    for number, row in enumerate(rows, 1):
        label = str(row["label"]).strip().lower()
        if label not in numbers:
            raise UserError(
                f"{where}, row {number}: label {row['label']!r}; it must be one of {', '.join(labels)}"
            )
        for name in inputs:
            if row[name] is None:
                raise UserError(f"{where}, row {number}: column {name!r} has no text")
            columns[name].append(row[name])
        columns["label"].append(numbers[label])
    if not columns["label"]:
        raise UserError(f"{where} has no rows")
    features: dict[str, Any] = {name: datasets.Value("string") for name in inputs}
    features["label"] = datasets.ClassLabel(names=list(labels))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def benchmark_rows(name: str, language: str, split: catalog.Part) -> "datasets.Dataset":
    """The rows of one of the paper's benchmarks in one language.

    Args:
        name: a benchmark of `catalog.yaml`: `xnli`, `americas_nli`, `nusax` or `marc`.
        language: a code of its `languages` or `outside_mean`.
        split: `validation` or `test`; NusaX and MARC have `train` too.

    Returns:
        Columns: the benchmark's `inputs`, then `label`.

    Raises:
        UserError: the rows are not there; one line that says what to set or to run.
    """
    benchmark = catalog.load().benchmarks[name]
    what = f"{benchmark.title}, {benchmark.tasks[language]}, {split}"
    if data_dir() is None and benchmark.hub is not None:
        hub = benchmark.hub
        source: dict[str, Any] = (
            {"name": language}
            if hub.data_files is None
            else {"data_files": {split: benchmark.fill(hub.data_files[split], language)}}
        )
        rows = hub_rows(hub.path, what, split=split, **source)
        return labelled(rows, benchmark.inputs, benchmark.labels, what)
    patterns = [benchmark.fill(pattern, language) for pattern in benchmark.files[split]]
    path = find_file(patterns, what, on_hub=benchmark.hub is not None)
    return labelled(_file_rows(name, path, language), benchmark.inputs, benchmark.labels, path)


def _file_rows(name: str, path: Path, language: str) -> Iterable[Mapping[str, Any]]:
    if path.suffix == ".json":
        return binarise_reviews(read_json_lines(path, list(MARC_COLUMNS.values())), path)
    if path.name.startswith("xnli."):
        return _published_xnli(path, path.stat().st_mtime_ns).get(language, [])
    return read_table(path, [*catalog.load().benchmarks[name].inputs, "label"])


@lru_cache(maxsize=2)
def _published_xnli(path: Path, _modified: int) -> dict[str, list[dict[str, str]]]:
    """XNLI's one file for all languages, read once for the fourteen tasks that need it."""
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_table(path, ["language", *XNLI_COLUMNS.values()]):
        renamed = {ours: row[theirs] for ours, theirs in XNLI_COLUMNS.items()}
        rows.setdefault(row["language"], []).append(renamed)
    return rows
