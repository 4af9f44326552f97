"""A command from start to end."""
