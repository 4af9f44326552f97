"""Results directories side by side."""
