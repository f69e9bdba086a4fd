"""Searching λ and density: recipes at the points of a grid, merged in memory and scored."""
