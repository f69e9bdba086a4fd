"""Python's search for garbage, kept out of the way of this package's own commands and merges.

An import makes a million objects that stay as long as the process. Python goes through them again and again
while they are young, and once more as it ends: about a second each (measured in docs/merge.md). Nothing here
is called in a process whose work is not ours.
"""

import atexit
import gc
from typing import Any


class ImportsStay:
    """No search for garbage meanwhile; what was made counts as old afterwards and is seldom gone through."""

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: Any) -> None:
        if not self._collects:
            return
        if not gc.get_freeze_count():  # what somebody else froze stays so
            gc.freeze()
            gc.unfreeze()
        gc.enable()


def end_at_once() -> None:
    """Have this process end without a last search for garbage. For the process of a command alone."""
    atexit.register(gc.freeze)
