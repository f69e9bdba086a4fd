"""Tables and figures of cells, beside the paper's, with bootstrap intervals."""
