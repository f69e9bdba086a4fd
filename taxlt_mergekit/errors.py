"""The one error that users see."""

import click


class UserError(click.ClickException, ValueError):
    """A mistake that a user can mend: one line that names the culprit and says what would be right.

    click commands, ours and the hosts', print it as ``Error: …`` without a traceback and exit with 1.
    Python callers may catch `ValueError`.
    """
