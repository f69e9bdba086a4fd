"""Text for the experiment, from the files that TAXLT_DATA holds, without sentences of NusaX.

    python experiments/nusax/text.py OUTPUT CODE...

writes OUTPUT/CODE.txt, a document a line, for each language; SMSA's rows as OUTPUT/smsa_{train,valid}.tsv
with a header, and those for training without their labels as OUTPUT/smsa.txt. What is there already is left
as it is.
"""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from languages import SOURCE, mono, nusax

from taxlt_mergekit.train.rows import near_duplicates

SMSA, SMSA_TEXT = "smsa_{}.tsv", "smsa.txt"


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("codes", nargs=-1, required=True)
def main(output: Path, codes: tuple[str, ...]) -> None:
    """Write the text of the languages CODES, and SMSA, to OUTPUT."""
    data = Path(os.environ["TAXLT_DATA"])
    output.mkdir(parents=True, exist_ok=True)
    for code in codes:
        if not (output / f"{code}.txt").exists():
            documents = list(dict.fromkeys(mono(data, code).read_text("utf-8").splitlines()))
            if code == SOURCE:
                documents += premises(data / "indonli/train.jsonl")
            kept = without_copies(code, documents, documents, nusax(data, code))
            _write(output / f"{code}.txt", kept)
    if not (output / SMSA_TEXT).exists():
        _write(output / SMSA_TEXT, [row.rpartition("\t")[0] for row in smsa(data, "train")])
    for part in ("train", "valid"):
        if not (output / SMSA.format(part)).exists():
            rows = smsa(data, part)
            texts = [row.rpartition("\t")[0] for row in rows]
            kept = without_copies(f"SMSA, {part}", rows, texts, nusax(data, SOURCE))
            _write(output / SMSA.format(part), ["text\tlabel", *kept])


def without_copies(name: str, lines: Sequence[str], texts: Sequence[str], folder: Path) -> list[str]:
    """The lines whose text NusaX does not have, in whole or in part."""
    copied = near_duplicates(texts, list(documents_of(folder)))
    kept = [line for line, drop in zip(lines, copied, strict=True) if not drop]
    print(f"{name}: {len(kept)} documents, {int(copied.sum())} left out that NusaX has too")
    return kept


def smsa(data: Path, part: str) -> list[str]:
    """SMSA's rows, a text, a tab and a label each, without those that are near-duplicates of NusaX's."""
    return (data / f"smsa/{part}_nonusax.tsv").read_text("utf-8").split("\n")[:-1]


def premises(file: Path) -> list[str]:
    """IndoNLI's premises: sentences of Wikipedia and of news."""
    rows = map(json.loads, file.read_text("utf-8").splitlines())
    return list(dict.fromkeys(" ".join(row["premise"].split()) for row in rows))


def documents_of(folder: Path) -> Iterable[str]:
    """NusaX's documents of all splits in one language."""
    for split in ("train", "valid", "test"):
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            yield from (row["text"] for row in csv.DictReader(file))


def _write(path: Path, lines: Iterable[str]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    main()
