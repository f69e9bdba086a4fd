"""The whole method in miniature, on made-up languages, by the commands that a user types."""
