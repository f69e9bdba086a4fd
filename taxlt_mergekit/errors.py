"""The one error that users see."""

import sys

import click


class UserError(click.ClickException, ValueError):
    """A mistake that a user can mend: one line that names the culprit and says what would be right.

    click commands, ours and the hosts', print it as ``Error: …`` without a traceback and exit with 1.
    Python callers may catch `ValueError`.
    """


def one_line_errors() -> None:
    """Have an uncaught `UserError` end the program with its one line and exit code 1.

    For `lm_eval`, whose command line prints the traceback of any error. Python callers are not affected:
    the exception reaches them as any other. Calling it again changes nothing.
    """
    if getattr(sys.excepthook, "prints_user_errors", False):
        return
    previous = sys.excepthook

    def hook(kind, error, traceback):
        if isinstance(error, UserError):
            error.show()
        else:
            previous(kind, error, traceback)

    hook.prints_user_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook
