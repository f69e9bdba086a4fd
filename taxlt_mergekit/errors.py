"""The one error that users see, and the one place that makes it of what libraries raise."""

import contextlib
import os
from collections.abc import Iterator

import click


class UserError(click.ClickException, ValueError):
    """A mistake that a user can mend: one line that names the culprit and says what would be right.

    click commands, ours and the hosts', print it as ``Error: …`` without a traceback and exit with 1.
    Python callers may catch `ValueError`.
    """


@contextlib.contextmanager
def translated(about: str, hint: str = "", *, as_it_is: bool = False) -> Iterator[None]:
    """Whatever a library raises meanwhile becomes a `UserError`: ``ABOUT: what it says HINT``.

    A `UserError`, and click's other ways to end a command, pass unchanged.

    Args:
        about: the file, model or command at fault.
        hint: what would be right, or where more is said.
        as_it_is: let the library's own error and its traceback through, for `-v`.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:  # libraries raise dozens of kinds at a door: pickle, HTTP, memory, encodings …
        if as_it_is:
            raise
        raise UserError(" ".join(filter(None, (f"{about}: {one_line(error)}", hint)))) from error


def one_line(error: BaseException, longest: int = 300) -> str:
    """A library's error as part of a one-line message.

    Its text without line breaks; an `OSError`'s own words with its file; and the kind of error where the
    text alone says little: a `KeyError`'s is a bare name, some have none.

    Args:
        longest: characters that are kept.
    """
    if isinstance(error, OSError) and error.strerror:
        file = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
        return f"{error.strerror}{file}"[:longest]
    text = " ".join(str(error).split())[:longest]
    kind = type(error).__name__
    if not text:
        return kind
    return f"{kind}: {text}" if isinstance(error, LookupError | AssertionError) else text


def first_line(error: BaseException) -> str:
    """The first line of an error's text, where the others are a traceback or a list of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
