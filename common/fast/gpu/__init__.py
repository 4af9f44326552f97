"""The layers on a GPU, compiled by Triton."""
