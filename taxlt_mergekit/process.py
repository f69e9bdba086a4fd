"""Python's search for garbage, kept out of the way of this package's own commands and merges.

An import makes a million objects that stay as long as the process. Python goes through them again and again
while they are young, and once more as it ends; docs/merge.md says what that costs. Only in processes that are
ours: who imports mergekit, or merges by its own methods, is left as without this package. Standard library
only, as `hosts.hook` needs it.
"""

import contextlib
import gc
import re
from collections.abc import Iterator, Sequence


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


def is_merge_of_ours(arguments: Sequence[str]) -> bool:
    """Whether a command line, `mergekit-yaml`'s say, names a recipe of one of our methods."""
    for argument in arguments:
        if argument.endswith((".yml", ".yaml")):
            with contextlib.suppress(OSError, ValueError), open(argument, encoding="utf-8") as file:
                if re.search(r"^merge_method:\s*xlt_", file.read(), flags=re.MULTILINE):
                    return True
    return False
