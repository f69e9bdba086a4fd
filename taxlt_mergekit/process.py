"""Python's search for garbage, kept out of the way of this package's own commands and merges.

An import makes a million objects that stay as long as the process. Python goes through them again and again
while they are young, and once more as it ends: about a second each (docs/merge.md). For the process of a
command alone: who only imports mergekit, or merges by its own methods, is left as without this package.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def imports_stay() -> Iterator[None]:
    """No search for garbage meanwhile, nor ever among the objects that are there at the end."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
