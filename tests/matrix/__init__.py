"""Merges over every model type of the installed transformers, held against a reference of loaded modules."""
