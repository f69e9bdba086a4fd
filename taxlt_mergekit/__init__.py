"""Task arithmetic for cross-lingual transfer, as a plugin for mergekit and lm-eval.

Importing this package imports nothing heavy: it runs at every interpreter start of an environment in
which it is installed (see `hosts.hook`).
"""

__version__ = "0.1.0"
__all__ = ["__version__", "register"]


def register() -> None:
    """Make mergekit and lm-eval know this package, now or as soon as they are imported.

    An installed package does this by itself at interpreter start. Call it where that road is off
    (``python -S``, ``TAXLT_NO_AUTOLOAD=1``, a checkout on ``PYTHONPATH``). Calling it again changes nothing.
    """
    from taxlt_mergekit.hosts.hook import register_now

    register_now()
