"""Where models come from: the default model's wheel, a GGUF file, an mlx-lm folder, the hub. Asked in that
order.
"""
