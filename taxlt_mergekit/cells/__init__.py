"""Scores as cells: kept in files, read from lm-eval, gathered, and chosen from."""
