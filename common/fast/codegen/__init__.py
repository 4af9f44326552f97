"""Loops and vectors that Numba compiles."""
