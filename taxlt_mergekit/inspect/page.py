"""The facts of a recipe's vectors as tables: of the whole, by layer and by kind of tensor."""

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import add

from taxlt_mergekit.inspect.facts import Facts, by_layer, summed
from taxlt_mergekit.inspect.vectors import Vectors
from taxlt_mergekit.merge.card import spread
from taxlt_mergekit.merge.run import UNRELATED
from taxlt_mergekit.report.tables import Block, Heading, Item, Number, Table, bullets

# A vector this much smaller than the task's adds little at any λ that people use.
SMALL = 0.1
# Two vectors that pull apart this much take from one another.
COLLIDING = -0.1


def blocks(vectors: Vectors, title: str) -> list[Block]:
    """Three tables under a heading, with remarks on vectors that stand out."""
    whole = reduce(add, vectors.facts.values())
    places = by_layer(vectors.facts)
    layers = summed(vectors.facts, {name: layer for name, (layer, _) in places.items()})
    kinds = summed(vectors.facts, {name: kind for name, (_, kind) in places.items()})
    return [
        Heading(1, f"Vectors of {title}"),
        f"θ₀ is {vectors.base}; {len(vectors.facts)} tensors with {whole.entries:,} weights are merged.",
        _overview(vectors, whole),
        *bullets(_remarks(vectors, whole)),
        Heading(2, "Size, ‖τ‖/‖θ₀‖ (%), and cosine with the task vector, by layer"),
        _table(
            "by_layer", "layer", vectors, dict(sorted(layers.items(), key=lambda item: in_order(item[0])))
        ),
        Heading(2, "The same by kind of tensor"),
        _table("by_kind", "kind", vectors, kinds),
    ]


def labels(vectors: Vectors) -> list[str]:
    """The vectors' names as short as they can be told apart: role and the folder's name."""
    return [
        f"{given.role} {str(model).rstrip('/').rpartition('/')[2]}" for model, given in vectors.given.items()
    ]


def in_order(layer: str) -> tuple[bool, str, int]:
    """Sorts layers by number, and what is outside them first."""
    match = re.fullmatch(r"(.*)layer (\d+)", layer)
    return (True, match[1], int(match[2])) if match else (False, layer, 0)


def _overview(vectors: Vectors, whole: Facts) -> Table:
    names = labels(vectors)
    header = (
        "vector",
        "λ",
        "‖τ‖/‖θ₀‖ (%)",
        "weights that moved (%)",
        "vocabulary rows that moved (%)",
        *(f"cosine with {name}" for name in names),
        "signs against the task's (%)",
    )
    rows: list[tuple[Item, ...]] = []
    for i, (name, given) in enumerate(zip(names, vectors.given.values(), strict=True)):
        rows.append(
            (
                name,
                spread(given.values.get("weight", set())),
                _percent(whole.size(i), 3),
                _percent(whole.share_moved(i)),
                _percent(whole.moved_rows[i] / whole.rows if whole.rows else None),
                *(Number(whole.cosine(i, j), digits=3) for j in range(len(names))),
                _percent(whole.share_opposed(i) if i else None),
            )
        )
    return Table("vectors", header, tuple(rows))


def _table(name: str, what: str, vectors: Vectors, groups: Mapping[str, Facts]) -> Table:
    names = labels(vectors)
    header = (what, *(f"{label} (%)" for label in names), *(f"cosine {label}" for label in names[1:]))
    rows: list[tuple[Item, ...]] = [
        (
            group,
            *(_percent(facts.size(i), 3) for i in range(len(names))),
            *(Number(facts.cosine(i, 0), digits=3) for i in range(1, len(names))),
        )
        for group, facts in groups.items()
    ]
    return Table(name, header, tuple(rows))


def _percent(share: float | None, digits: int = 2) -> Number:
    return Number(None if share is None else 100 * share, digits=digits)


def _remarks(vectors: Vectors, whole: Facts) -> Iterator[str]:
    task = whole.size(0) or 0.0
    for i, name in enumerate(labels(vectors)):
        size, cosine = whole.size(i) or 0.0, whole.cosine(i, 0)
        if size == 0:
            yield f"{name}: the vector is zero and changes nothing"
        elif size >= UNRELATED:
            yield f"{name}: as large as θ₀ itself, so the model does not seem to come from {vectors.base}"
        elif size < SMALL * task:
            yield f"{name}: {size / task:.2g} times the task vector's size: hardly trained?"
        if i and cosine is not None and cosine < COLLIDING:
            yield f"{name}: points away from the task vector (cosine {cosine:.2f}): each weakens the other"
