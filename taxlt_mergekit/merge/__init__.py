"""Adding vectors up: the mathematics, what a recipe means, and one merge from recipe to folder."""
