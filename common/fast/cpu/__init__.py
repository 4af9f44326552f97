"""The layers on the CPU."""
