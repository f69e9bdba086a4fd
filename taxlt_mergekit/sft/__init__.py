"""Sparse fine-tunings (Ansell et al. 2022) in the files of their authors' library: import and export."""
