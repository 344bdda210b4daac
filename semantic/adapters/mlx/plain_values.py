"""Any value in terms of JSON, the same in every process."""

import dataclasses
from typing import Any

SCALARS = (str, int, float, bool, type(None))


def plain(value: Any) -> Any:
    """Fields, items and scalars. Whatever else there is counts by its name or its class: a repr may hold an address."""
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(plain(item)) for item in value)
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name.name: plain(getattr(value, name.name, None)) for name in dataclasses.fields(value)}
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
