"""Training over the pieces of a corpus alone, in place of the whole vocabulary."""
