"""Groups of tensors by layer, and the filters that find them in a recipe."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.config import ConditionalParameter, evaluate_setting

from taxlt_mergekit.merge.layers import filters_of, groups_of, layer_of

# Stacks of which one is a part of the other's name, and one with experts, which have numbers too.
STACKS = ("model.layers", "vision_model.layers", "roberta.encoder.layer", "h")
KINDS = ("q.weight", "mlp.experts.1.w.weight", "norm.bias")
OUTSIDE = ("roberta.embeddings.word_embeddings.weight", "model.norm.weight", "wte.weight")


def names(stack: str, layers: int) -> list[str]:
    return [f"{stack}.{number}.{kind}" for number in range(layers) for kind in KINDS]


@pytest.mark.parametrize(
    ("layers", "thirds"),
    [(1, (0, 1, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (1, 2, 1)), (12, (4, 4, 4)), (32, (11, 10, 11))],
)
def test_layers_are_cut_in_thirds_from_below(layers, thirds):
    groups = groups_of([*names("h", layers), "wte.weight"])
    assert groups.pop("wte.weight") == "embeddings"
    by_layer = [groups[f"h.{number}.q.weight"] for number in range(layers)]
    assert tuple(by_layer.count(third) for third in ("lower", "middle", "upper")) == thirds
    assert by_layer == sorted(by_layer)  # lower, middle, upper: in the alphabet too
    assert all(groups[f"h.{n}.{kind}"] == by_layer[n] for n in range(layers) for kind in KINDS)


@given(st.dictionaries(st.sampled_from(STACKS), st.integers(1, 13)), st.sets(st.sampled_from(OUTSIDE)))
@settings(max_examples=60, deadline=None)
def test_mergekit_finds_by_the_filters_what_is_in_the_group(stacks, outside):
    tensors = [*outside, *(name for stack, layers in stacks.items() for name in names(stack, layers))]
    recipe = [ConditionalParameter(filter=found, value=group) for found, group in filters_of(tensors)]
    found = {name: evaluate_setting(name, recipe, validate=str) for name in tensors}
    assert found == groups_of(tensors)


def test_a_name_is_cut_at_its_first_number():
    assert layer_of("a.layer.10.experts.3.w") == ("a.layer", 10, "experts.3.w")
    assert layer_of("a.embeddings.weight") is None
