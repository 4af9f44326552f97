"""One network on one split."""
