"""Facts about the vectors of a recipe, before they are merged: `taxlt inspect`."""
