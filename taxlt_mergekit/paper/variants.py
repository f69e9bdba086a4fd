"""The paper's variants (section 2.1): what each adds to the task vector, and what it is called where.

A variant's key (`plus_tgt`) stands in file names and results; the paper's text says `+TGT`, its tables
`MODEL + TGT`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

VariantKey = Literal["plus_src", "plus_tgt", "plus_src_plus_tgt", "minus_src_plus_tgt"]
# θ_T as it is: `MODEL` in the paper's tables.
MODEL: Literal["model"] = "model"
# Other work whose scores the paper quotes in its tables.
Baseline = Literal["sft", "tlr_adapters"]

_ABBREVIATIONS = {"source": "SRC", "target": "TGT"}


@dataclass(frozen=True)
class Variant:
    """One way to add language vectors to a task vector.

    Attributes:
        merge_method: mergekit's name for it: equation 2 (`xlt_additive`) or 3 (`xlt_analogy`).
        signs: role of each language vector → its sign in the sum.
    """

    key: VariantKey
    merge_method: str
    signs: dict[str, str]

    @property
    def name(self) -> str:
        """As in the paper's text: `+SRC+TGT`."""
        return "".join(f"{sign}{_ABBREVIATIONS[role]}" for role, sign in self.signs.items())

    @property
    def table_name(self) -> str:
        """As in the paper's tables: `MODEL + SRC + TGT`."""
        return "MODEL" + "".join(f" {sign} {_ABBREVIATIONS[role]}" for role, sign in self.signs.items())


# In the order of the paper's tables.
VARIANTS: dict[VariantKey, Variant] = {
    variant.key: variant
    for variant in (
        Variant("plus_src", "xlt_additive", {"source": "+"}),
        Variant("plus_tgt", "xlt_additive", {"target": "+"}),
        Variant("plus_src_plus_tgt", "xlt_additive", {"source": "+", "target": "+"}),
        Variant("minus_src_plus_tgt", "xlt_analogy", {"source": "−", "target": "+"}),
    )
}
assert tuple(VARIANTS) == get_args(VariantKey)

# Key → what the paper's text calls a variant, or MODEL.
NAMES: dict[str, str] = {MODEL: "MODEL"} | {variant.key: variant.name for variant in VARIANTS.values()}
# Key → what its tables 2, 7 and 8 call a row, in their order.
TABLE_NAMES: dict[str, str] = {
    MODEL: "MODEL",
    **{variant.key: variant.table_name for variant in VARIANTS.values()},
    "sft": "SFT",
    "tlr_adapters": "TLR ADAPTERS",
}
# Another merge method: `xlt_ties_plus_tgt`; of task models alone, `xlt_linear_model`.
_OTHER_METHOD = re.compile(rf"xlt_(.+?)_({'|'.join(sorted((*VARIANTS, MODEL), key=len, reverse=True))})")
# λ was searched by group of tensors, and what chose where that is said.
_PER_GROUP = re.compile(r"(.+)_per_group(?:_(.+))?")
_RECIPE_STEM = re.compile(rf"(?:(.+?)_)?({'|'.join(sorted(VARIANTS, key=len, reverse=True))})")


def name_of(key: str) -> str:
    """What the paper's text calls a variant, or MODEL; any other name as it is."""
    if match := _PER_GROUP.fullmatch(key):
        return f"{name_of(match[1])} per group"
    return NAMES.get(key, key)


def table_name_of(key: str) -> str:
    """What the paper's tables call a row; `TIES, +TGT` for another method; any other name as it is."""
    if match := _PER_GROUP.fullmatch(key):
        return f"{table_name_of(match[1])}, λ per group{f' by {match[2]}' * bool(match[2])}"
    if key in TABLE_NAMES or not (match := _OTHER_METHOD.fullmatch(key)):
        return TABLE_NAMES.get(key, key)
    return f"{match[1].replace('_', ' ').upper()}, {NAMES[match[2]]}"


def is_of_another_method(key: str) -> bool:
    """Whether a key is of a merge method that the paper does not have."""
    match = _PER_GROUP.fullmatch(key)
    plain = match[1] if match else key
    return plain not in TABLE_NAMES and _OTHER_METHOD.fullmatch(plain) is not None


def per_group(key: str, criterion: str | None = None) -> str:
    """The key of a variant whose λ are searched by group of tensors, or were, by this criterion."""
    return f"{key}_per_group{f'_{criterion}' if criterion else ''}"


def is_per_group(key: str) -> bool:
    """Whether a key is one of `per_group`."""
    return _PER_GROUP.fullmatch(key) is not None


def variant_of(merge_method: str, roles: Collection[str]) -> str | None:
    """The variant of a recipe with language vectors of these roles, or None where it has no name.

    The paper's key for its methods; for another `xlt_` method its name before the key of the paper's variant
    with vectors of these roles, all of them added: `xlt_ties_plus_tgt`.
    """
    of_languages = set(roles) & set(_ABBREVIATIONS)
    of_paper = {variant.merge_method for variant in VARIANTS.values()}
    wanted = merge_method if merge_method in of_paper else "xlt_additive"
    keys = [v.key for v in VARIANTS.values() if (v.merge_method, set(v.signs)) == (wanted, of_languages)]
    if merge_method in of_paper:
        return keys[0] if keys else None
    if not merge_method.startswith("xlt_"):
        return None
    return f"{merge_method}_{keys[0] if keys else MODEL}"


def split_recipe_name(stem: str) -> tuple[str | None, str] | None:
    """`marc_de_plus_tgt` → (`marc_de`, `plus_tgt`), `plus_tgt` → (None, `plus_tgt`), another name → None."""
    match = _RECIPE_STEM.fullmatch(stem)
    return (match[1], match[2]) if match else None
