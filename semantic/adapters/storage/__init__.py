"""The store on disk: one safetensors file for each block, SQLite for what is published and for agents."""
