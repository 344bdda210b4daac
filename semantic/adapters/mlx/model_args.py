"""What a model's arguments say, wherever it keeps them."""

from typing import Any


def first_positive(model: Any, *names: str) -> int | None:
    """The first of these arguments that is a positive integer: the model's own, or in a wrapper those of its text."""
    args = getattr(model, "args", None)
    for config in (args, getattr(args, "text_config", None)):
        for name in names:
            value = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
            if isinstance(value, int) and value > 0:
                return value
    return None
