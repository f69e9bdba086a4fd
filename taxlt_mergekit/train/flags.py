"""TODO"""

import difflib
from collections.abc import Sequence
from typing import Any

import click

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train import settings as ts

VARIADIC = ("--corpus", "--validation", "--lora-target-modules")


ALIASES = {"--output-dir": "--output"}


TRUTH = ("true", "false", "yes", "no", "t", "f", "y", "n", "1", "0")


class TrainCommand(click.Command):
    """A command that also takes every field of `TrainingArguments`, in either spelling (`-` or `_`)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = {name: option for option in self.params for name in getattr(option, "opts", ())}
        ours |= {name: option for option in self.params for name in getattr(option, "secondary_opts", ())}
        ours |= {"--help": None, "-h": None}  # type: ignore[dict-item]
        rest, fields = split_flags(args, ours)
        ctx.meta["taxlt.arguments"] = fields
        return super().parse_args(ctx, rest)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, ctx.command.options_metavar or "")


def split_flags(args: Sequence[str], ours: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Part a command line into what click parses and fields of `TrainingArguments`.

    Args:
        args: the command line after the command.
        ours: click's options by their long names.

    Returns:
        The arguments for click, with `--corpus a b` written out as `--corpus a --corpus b` where MODEL came
        before, and the fields with their values.

    Raises:
        UserError: a flag that is neither; proposes the nearest.
    """
    rest: list[str] = []
    fields: dict[str, Any] = {}
    queue = list(args)
    model_seen = False
    while queue:
        word = queue.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            model_seen = True
            rest.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        flag = ALIASES.get(flag, flag)
        if flag not in ours:
            name, value = _field(flag, value if equals else None, queue, ours)
            fields[name] = value
            continue
        switch = ours[flag] is None or getattr(ours[flag], "is_flag", False)
        setting = switch and flag not in ("--help", "-h", "--resume")
        if setting and (equals or (queue and queue[0].lower() in TRUTH)):
            on = _truth(flag, value if equals else queue.pop(0))
            fields[ours[flag].name] = on == (flag not in ours[flag].secondary_opts)
            continue
        if switch or equals:
            rest.append(flag + equals + value)
            continue
        many = flag in VARIADIC and model_seen and getattr(ours[flag], "multiple", False)
        count = 1
        while many and count < len(queue) and not queue[count].startswith("-"):
            count += 1
        for word in queue[:count]:
            rest += [flag, word]
        if not queue:
            rest.append(flag)
        del queue[:count]
    return rest, fields


def _truth(flag: str, value: str) -> bool:
    """A switch's value, which transformers' flags may carry (`--bf16 true`)."""
    if value.lower() not in TRUTH:
        raise UserError(f"{flag} must be true or false, not {value!r}")
    return TRUTH.index(value.lower()) % 2 == 0


def _field(flag: str, value: str | None, queue: list[str], ours: dict[str, Any]) -> tuple[str, Any]:
    """One flag of `TrainingArguments`, with its value taken from `value` or from the queue."""
    actions = _argument_actions()
    if flag not in actions:
        known = [name for name in (*ours, *actions) if name.startswith("--")]
        near = difflib.get_close_matches(flag, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; see --help"
        raise UserError(f"no such option: {flag}{hint}")
    action = actions[flag]
    if action.nargs == 0:  # --no-… of a field that is on by default
        return action.dest, False
    optional = action.nargs == "?" or getattr(action.type, "__name__", "") == "string_to_bool"
    if value is None:
        if queue and (queue[0].lower() in TRUTH if optional else not queue[0].startswith("--")):
            value = queue.pop(0)
        elif optional:
            return action.dest, True
        else:
            raise UserError(f"{flag} needs a value")
    return action.dest, _convert(flag, action, value)


def _convert(flag: str, action: Any, value: str) -> Any:
    """A value as transformers' parser would read it."""
    try:
        converted = action.type(value) if action.type is not None else value
    except Exception as error:
        name = getattr(action.type, "__name__", "value")
        wanted = "true or false" if name == "string_to_bool" else f"of type {name}"
        raise UserError(f"{flag} must be {wanted}, not {value!r}") from error
    choices = [getattr(choice, "value", choice) for choice in action.choices or ()]
    if choices and getattr(converted, "value", converted) not in choices:
        raise UserError(f"{flag} must be one of {', '.join(map(str, choices))}, not {value!r}")
    return getattr(converted, "value", converted)


def _argument_actions() -> dict[str, Any]:
    """Long flag, in the spelling with hyphens → argparse's action for the field of `TrainingArguments`."""
    from transformers import HfArgumentParser, TrainingArguments

    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)
    return {
        name.replace("_", "-"): action
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and action.dest != "help"
    }


def _typed(values: dict[str, Any], kind: ts.Kind) -> dict[str, Any]:
    """Fields of `TrainingArguments` from YAML with the types of the flags (YAML reads 5e-5 as text)."""
    ours = ts.SETTINGS[kind].model_fields.keys()
    if values.keys() <= ours:
        return values
    actions = {action.dest: (flag, action) for flag, action in _argument_actions().items()}
    for key in values.keys() - ours:
        if key not in actions:
            near = difflib.get_close_matches(key, [*ours, *actions], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"--config: no such setting: {key}{hint}")
        flag, action = actions[key]
        if isinstance(values[key], str):
            values[key] = _convert(flag, action, values[key])
    return values
