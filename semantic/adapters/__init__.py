"""Everything that touches the outside: MLX, files, terminals, clocks. Only the container names adapters."""
