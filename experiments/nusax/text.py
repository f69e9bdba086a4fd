"""Raw text for the experiment, from the files that TAXLT_DATA holds, without sentences of NusaX.

    python experiments/nusax/text.py OUTPUT

writes OUTPUT/CODE.txt, a document a line, for Indonesian (id), Javanese, Sundanese, Madurese and Toba Batak.
"""

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path

import click

from taxlt_mergekit.train.rows import near_duplicates

# Code → the file's name in mono/ and the folder in nusax/.
LANGUAGES = {
    "id": ("ind", "indonesian"),
    "jav": ("jav", "javanese"),
    "sun": ("sun", "sundanese"),
    "mad": ("mad", "madurese"),
    "bbc": ("btk", "toba_batak"),
}


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
def main(output: Path) -> None:
    """Write the text of every language to OUTPUT."""
    data = Path(os.environ["TAXLT_DATA"])
    output.mkdir(parents=True, exist_ok=True)
    for code, (name, folder) in LANGUAGES.items():
        documents = list(dict.fromkeys((data / f"mono/{name}.txt").read_text("utf-8").splitlines()))
        if code == "id":
            documents += premises(data / "indonli/train.jsonl")
        copied = near_duplicates(documents, list(nusax(data / "nusax" / folder)))
        kept = [document for document, drop in zip(documents, copied, strict=True) if not drop]
        (output / f"{code}.txt").write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        print(f"{code}: {len(kept)} documents, {int(copied.sum())} left out that NusaX has too")


def premises(file: Path) -> list[str]:
    """IndoNLI's premises: sentences of Wikipedia and of news."""
    rows = map(json.loads, file.read_text("utf-8").splitlines())
    return list(dict.fromkeys(" ".join(row["premise"].split()) for row in rows))


def nusax(folder: Path) -> Iterable[str]:
    """NusaX's rows of all splits in one language."""
    for split in ("train", "valid", "test"):
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            yield from (row["text"] for row in csv.DictReader(file))


if __name__ == "__main__":
    main()
