"""`taxlt export`: what this project can give to others, in the form in which they take it."""
