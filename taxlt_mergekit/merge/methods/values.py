"""Whether a parameter's value is one: its type, and the range that its name stands for."""

import difflib
import math
from collections.abc import Iterable
from typing import Any, get_args

from mergekit.merge_methods.base import ParameterSpec
from pydantic import ValidationError

from taxlt_mergekit.errors import UserError

# mergekit's specs say no more than a type. Name → (lower bound, may it be that, upper bound, may it be that).
_RANGES = {
    "density": (0.0, False, 1.0, True),
    "select_topk": (0.0, False, 1.0, True),
    "gamma": (0.0, True, 1.0, False),
    "epsilon": (0.0, True, 1.0, False),
    "eps": (0.0, False, math.inf, False),
    "tol": (0.0, False, math.inf, False),
    "max_iter": (1.0, True, math.inf, False),
    "r": (0.0, True, math.inf, False),
    "alpha": (0.0, True, math.inf, False),
}


def check_value(owner: str, parameter: ParameterSpec, value: Any, method: str) -> None:
    """Refuse one plain value of a parameter.

    Args:
        owner: the model or block of the recipe that has it.

    Raises:
        UserError: not a value of its type, not finite, or out of its range.
    """
    name, choices = parameter.name, _choices(parameter)
    if choices:
        if value not in choices:
            raise UserError(
                f"{owner}: {name} '{value}' is unknown{suggest(str(value), choices)}; "
                f"it is {', '.join(choices[:-1])} or {choices[-1]}"
            )
        return
    kinds = [kind for kind in get_args(parameter.value_type) or (parameter.value_type,) if kind in _WORDS]
    kind = kinds[0] if kinds else None
    try:
        parsed = parameter.validate(value)
    except ValidationError:
        parsed = None
    # pydantic makes 1.0 of true, and true of 1.
    if parsed is None or isinstance(value, bool) != (kind is bool) or not _is_finite(parsed):
        what = _WORDS.get(kind, "something else")
        raise UserError(f"{owner}: {name} must be {what}, not {value!r} ({method})")
    if name in _RANGES and kind is not bool:
        low, with_low, high, with_high = _RANGES[name]
        if not (low < parsed < high or (with_low and parsed == low) or (with_high and parsed == high)):
            bounds = f"{'at least' if with_low else 'above'} {low:g}"
            bounds += f" and {'at most' if with_high else 'below'} {high:g}" if math.isfinite(high) else ""
            raise UserError(f"{owner}: {name} must be {bounds}, not {value!r} ({method})")


def suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


_WORDS: dict[Any, str] = {float: "a finite number", int: "a whole number", bool: "true or false"}


def _choices(parameter: ParameterSpec) -> tuple[str, ...]:
    found = get_args(parameter.value_type)
    return found if found and all(isinstance(choice, str) for choice in found) else ()


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
