"""Where experiments are read from, and where their results and reports go."""
