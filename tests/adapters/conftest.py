"""OpenBLAS before any test module imports MLX, as the library does it."""

from semantic.adapters.mlx import blas

blas.activate()
