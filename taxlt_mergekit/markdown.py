"""Markdown as this package writes it: tables that read well in a terminal too, and model cards' metadata."""

from collections.abc import Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A padded table; vertical bars in cells are escaped.

    Args:
        header: one text a column.
        rows: as many texts each.
        left: this many columns are aligned to the left, the others, figures, to the right.
    """
    lines = [[text.replace("|", r"\|") for text in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    rule = ["-" * width if place < left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    padded.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def metadata(**fields: Any) -> str:
    """A model card's metadata block, with Hugging Face's names of fields; empty ones are left out."""
    from huggingface_hub import ModelCardData

    return f"---\n{ModelCardData(**fields).to_yaml()}\n---"
