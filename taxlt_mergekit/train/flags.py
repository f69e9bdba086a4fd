"""Flags that `taxlt train` takes beside its own: every field of `transformers.TrainingArguments`.

Fields are read by transformers' own parser, which is only built when one of them is given.
"""

import argparse
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import click

from taxlt_mergekit.errors import UserError

VARIADIC = ("--corpus", "--validation", "--lora-target-modules")
ALIASES = {"--output-dir": "--output"}
ALONE = ("--help", "-h", "--resume")
# Other switches may carry a value, as transformers' do (`--bf16 true`).
TRUTH = dict.fromkeys(("true", "yes", "t", "y", "1"), True)
TRUTH |= dict.fromkeys(("false", "no", "f", "n", "0"), False)


class TrainCommand(click.Command):
    """A command that also takes every field of `TrainingArguments`, in either spelling (`-` or `_`)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        ours = {name: option for option in options for name in (*option.opts, *option.secondary_opts)}
        rest, ctx.meta["taxlt.arguments"] = split_flags(args, ours)
        return super().parse_args(ctx, rest)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, ctx.command.options_metavar or "")


def split_flags(args: Sequence[str], ours: Mapping[str, click.Option]) -> tuple[list[str], dict[str, Any]]:
    """Part a command line into what click parses and settings that are read here.

    Args:
        args: the command line after the command.
        ours: click's options by their names.

    Returns:
        The arguments for click, with `--corpus a b` written out as `--corpus=a --corpus=b` where MODEL came
        before; and by name the fields of `TrainingArguments`, and those of our switches that carry a value.

    Raises:
        UserError: a flag that is neither (proposes the nearest), or a value that is not of its type.
    """
    rest: list[str] = []
    read: dict[str, Any] = {}
    queue = list(args)
    model_seen = False
    while queue:
        word = queue.pop(0)
        if word in ("-", "--") or not word.startswith("-"):
            model_seen = True
            rest.append(word)
            continue
        flag, equals, text = word.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        flag = ALIASES.get(flag, flag)
        takes = _takes(flag, ours)
        follows = bool(queue) and not equals and _is_value(queue[0], takes, flag in ours)
        if follows:
            equals, text = "=", queue.pop(0)
        if flag not in ours:
            read |= _read_field(flag, text if equals and takes != "nothing" else None)
        elif takes == "truth" and equals:
            if text.lower() not in TRUTH:
                raise UserError(f"{flag} must be true or false, not {text!r}")
            read[str(ours[flag].name)] = TRUTH[text.lower()] == (flag not in ours[flag].secondary_opts)
        else:
            rest.append(flag + equals + text)
            many = follows and flag in VARIADIC and ours[flag].multiple and model_seen
            while many and queue and not queue[0].startswith("-"):
                rest.append(f"{flag}={queue.pop(0)}")
    return rest, read


def typed(values: Mapping[str, Any], ours: Collection[str]) -> dict[str, Any]:
    """A `--config` file's settings; texts are read as by the flags of their names (YAML takes 5e-5 for text).

    Args:
        values: by name.
        ours: the names that are no fields of `TrainingArguments`.

    Raises:
        UserError: a name that is neither (proposes the nearest), or a value that is not of its type.
    """
    found = dict(values)
    for name in values.keys() - ours:
        fields = [flag[2:].replace("-", "_") for flag in _fields()[1]]
        if name not in fields:
            raise UserError(f"--config: no such setting: {name}{_nearest(name, [*ours, *fields])}")
        if isinstance(values[name], str):
            found |= _read_field("--" + name.replace("_", "-"), values[name])
    return found


def _takes(flag: str, ours: Mapping[str, click.Option]) -> str:
    """What may stand behind a flag: `nothing`, `truth` (or nothing), or a `value`."""
    if flag in ours:
        return "nothing" if flag in ALONE else "truth" if ours[flag].is_flag else "value"
    _, fields = _fields()
    if flag not in fields:
        known = [name for name in (*ours, *fields) if name.startswith("--")]
        raise UserError(f"no such option: {flag}{_nearest(flag, known) or '; see --help'}")
    how = fields[flag]
    return "nothing" if "action" in how else "truth" if how["nargs"] == "?" else "value"


def _is_value(word: str, takes: str, ours: bool) -> bool:
    if takes == "truth":
        return word.lower() in TRUTH
    return takes == "value" and (ours or not word.startswith("--"))


def _read_field(flag: str, text: str | None) -> dict[str, Any]:
    """The field that a flag sets, by name, and its value as transformers reads it."""
    parser, fields = _fields()
    try:
        given = vars(parser.parse_args([flag if text is None else f"{flag}={text}"]))
    except argparse.ArgumentError as error:
        if text is None:
            raise UserError(f"{flag} needs a value") from error
        how = fields[flag]
        name = getattr(how["type"], "__name__", "value")
        wanted = "true or false" if name == "string_to_bool" else f"of type {name}"
        if "choices" in how:
            wanted = f"one of {', '.join(map(str, how['choices']))}"
        raise UserError(f"{flag} must be {wanted}, not {text!r}") from error
    return {name: getattr(value, "value", value) for name, value in given.items()}


@cache
def _fields() -> tuple[argparse.ArgumentParser, dict[str, dict[str, Any]]]:
    """transformers' parser, of which only what was given comes out, and how it declares each flag."""
    from transformers import HfArgumentParser, TrainingArguments
    from transformers.hf_argparser import string_to_bool

    flags: dict[str, dict[str, Any]] = {}

    class Parser(HfArgumentParser):
        def add_argument(self, *names: str, **how: Any) -> argparse.Action:
            if "action" not in how:  # which `--no-…` has
                alone = how["type"] is string_to_bool or how.get("nargs") == "?"
                how |= {"nargs": "?", "const": True} if alone else {"nargs": None}
            flags[names[-1]] = how  # the spelling with hyphens
            return super().add_argument(*names, **how | {"default": argparse.SUPPRESS})

    return Parser(TrainingArguments, add_help=False, exit_on_error=False), flags


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
