"""Which languages there are: those of NusaX whose raw text and labelled documents a folder of data has.

A language is added by its files, `nusax/<language>/{train,valid,test}.csv` and `mono/<code>.txt`.
"""

from collections.abc import Mapping
from pathlib import Path

import click

from taxlt_mergekit.paper import catalog

NUSAX = catalog.load().benchmarks["nusax"]
SOURCE = NUSAX.source
# Those that θ₀ is trained on; it has seen them, and no others of these.
SEEN = (SOURCE, "jav", "sun")
# Where mono/ has another code than the catalog.
_MONO = {SOURCE: "ind", "bbc": "btk"}
_FOLDER = {SOURCE: "ind"}


def mono(data: Path, code: str) -> Path:
    """A language's raw text, a paragraph a line."""
    return data / f"mono/{_MONO.get(code, code)}.txt"


def nusax(data: Path, code: str) -> Path:
    """The folder of a language's labelled documents."""
    return data / NUSAX.fill("nusax/{folder}", _FOLDER.get(code, code))


def targets(data: Path) -> Mapping[str, list[str]]:
    """The languages with both, but for the source: those that θ₀ has `seen`, and the `unseen` ones.

    Raises:
        ClickException: a language that θ₀ is trained on is not there, or no unseen one is.
    """
    there = [
        code
        for code in (SOURCE, *NUSAX.languages)
        if mono(data, code).is_file() and nusax(data, code).is_dir()
    ]
    for code in SEEN:
        if code not in there:
            raise click.ClickException(
                f"{mono(data, code)} and {nusax(data, code)} must be there: θ₀ is trained on it"
            )
    found = {"seen": list(SEEN[1:]), "unseen": [code for code in there if code not in SEEN]}
    if not found["unseen"]:
        raise click.ClickException(
            f"{data} has no language with files in mono/ and nusax/ that θ₀ has not seen"
        )
    return found
