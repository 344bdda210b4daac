"""One wording for the commonest broken rule."""

from semantic.domain.errors import InvalidSpecError


def require_int(name: str, value: object, least: int) -> None:
    """Raise :class:`InvalidSpecError` unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidSpecError(f"{name} must be an integer of at least {least}, got {value!r}")
