"""The merge methods: equations 2 and 3, those of mergekit with roles and heads, and Fisher's weights."""

# First of all: mergekit's registry has `table` imported as soon as it is there itself, and that finds the
# modules here either whole or not yet begun.
import mergekit.merge_methods  # noqa: F401
