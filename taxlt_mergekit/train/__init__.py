"""Language vectors and task vectors, trained with the paper's settings on transformers' Trainer."""
