"""Sealed blocks in fewer bits: pure numpy, nothing of MLX."""
