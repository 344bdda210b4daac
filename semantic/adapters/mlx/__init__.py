"""MLX behind the ports. Import :mod:`semantic.adapters.mlx.runtime` first: it loads the BLAS that MLX will use."""
