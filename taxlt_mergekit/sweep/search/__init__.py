"""Searching λ by group of tensors: which point is tried next, and the search from the grid's choice on."""
