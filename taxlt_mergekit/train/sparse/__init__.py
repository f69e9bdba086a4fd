"""Lottery-ticket sparse fine-tuning (Ansell et al. 2022): which parameters, and that no other moves."""
