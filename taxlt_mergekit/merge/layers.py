"""Which layer a tensor is of, by its name, and layers in thirds. Pure."""

import re
from collections.abc import Iterable

OUTSIDE, *THIRDS = ("embeddings", "lower", "middle", "upper")

_LAYER = re.compile(r"(.*?)\.(\d+)\.(.*)")


def layer_of(name: str) -> tuple[str, int, str] | None:
    """A tensor's stack of layers, its layer's number and its name within the layer.

    `roberta.encoder.layer.3.output.dense.bias` is (`roberta.encoder.layer`, 3, `output.dense.bias`). The
    first number of a name is the layer's: experts have a second one. None outside the layers.
    """
    match = _LAYER.fullmatch(name)
    return (match[1], int(match[2]), match[3]) if match else None


def groups_of(names: Iterable[str]) -> dict[str, str]:
    """Tensor → its group: the third of its stack that its layer is in, or `embeddings` outside the layers.

    Thirds are as even as they can be, the ends alike: of four layers two are in the middle, of two none.
    """
    places = {name: layer_of(name) for name in names}
    numbers: dict[str, set[int]] = {}
    for place in places.values():
        if place:
            numbers.setdefault(place[0], set()).add(place[1])
    groups = {}
    for name, place in places.items():
        if place is None:
            groups[name] = OUTSIDE
            continue
        layers = sorted(numbers[place[0]])
        groups[name] = THIRDS[(2 * layers.index(place[1]) + 1) * len(THIRDS) // (2 * len(layers))]
    return groups


def filters_of(names: Iterable[str]) -> tuple[tuple[str | None, str], ...]:
    """Filters and the groups whose tensors they find, in a recipe's order; None finds what is left.

    mergekit takes the first filter that is a part of the tensor's name. So `vision_model.layers.0.` comes
    before `model.layers.0.`, which is a part of it.
    """
    filters: dict[str | None, str] = {}
    for name, group in groups_of(names).items():
        place = layer_of(name)
        filters[f"{place[0]}.{place[1]}." if place else None] = group
    stacks = {filter_: len(filter_.rstrip("0123456789.")) for filter_ in filters if filter_}
    layers = sorted(stacks, key=lambda filter_: -stacks[filter_])
    left = [(None, OUTSIDE)] if None in filters else []
    return (*((filter_, filters[filter_]) for filter_ in layers), *left)
