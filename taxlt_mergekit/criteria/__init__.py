"""Ways of choosing a point of a grid: pure functions from scores or predictions to a curve."""
