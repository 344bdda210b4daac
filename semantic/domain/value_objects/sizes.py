"""Numbers of bytes as people write them."""

import re
from decimal import Decimal

from semantic.domain.errors import InvalidSizeError

_DECIMAL = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_UNITS = {"": 1, **_DECIMAL, **_BINARY}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)


def parse_size(size: "int | float | str") -> int:
    """Bytes from ``"1GB"`` (10^9), ``"1GiB"`` (2^30), ``"1.5 gb"``, ``"4096"`` or a whole number.

    Fractions of a byte are dropped. Raises :class:`InvalidSizeError` for anything else, and below one byte.
    """
    if isinstance(size, str):
        num_bytes = _parse(size)
    elif isinstance(size, bool) or not isinstance(size, int | float) or size != size // 1:
        raise InvalidSizeError(f"a size is a whole number of bytes or a string such as '1GB', got {size!r}")
    else:
        num_bytes = int(size)
    if num_bytes <= 0:
        raise InvalidSizeError(f"a size must be at least one byte, got {size!r}")
    return num_bytes


def _parse(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidSizeError(f"{text!r} is not a size; write it as 1GB (10^9), 1GiB (2^30), or plain digits")
    number, unit = match.groups()
    if unit.upper() not in _UNITS:
        raise InvalidSizeError(
            f"{unit!r} in {text!r} is not a unit; use B, KB, MB, GB, TB (powers of 1000) "
            "or KiB, MiB, GiB, TiB (powers of 1024)"
        )
    return int(Decimal(number) * _UNITS[unit.upper()])


def format_size(num_bytes: int) -> str:
    """``1500000000`` as ``"1.5 GB"``: powers of 1000, at most one decimal."""
    for unit, factor in _DECIMAL.items():
        if round(abs(num_bytes) / factor, 1) < 1000 or unit == "TB":
            break
    return f"{num_bytes / factor:.1f}".removesuffix(".0") + f" {unit}"
