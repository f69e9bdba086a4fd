"""The one error that users see."""

import click


class UserError(click.ClickException, ValueError):
    """A mistake that a user can mend: one line that names the culprit and says what would be right.

    click commands, ours and the hosts', print it as ``Error: …`` without a traceback and exit with 1.
    Python callers may catch `ValueError`.
    """


def one_line(error: BaseException, longest: int = 300) -> str:
    """A library's error as part of a one-line message: all of its text, or its kind where it has none.

    Args:
        longest: characters that are kept.
    """
    return " ".join(str(error).split())[:longest] or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's text, where the others are a traceback or a list of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
