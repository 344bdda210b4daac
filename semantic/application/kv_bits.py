"""Which precisions of keys and values can be asked for in compute, whatever the model."""

from semantic.domain.errors import UnsupportedPrecisionError

KV_BITS = {8: (8, 8), 4: (4, 4), "8": (8, 8), "4": (4, 4), "8/4": (8, 4)}
"""What can be asked for, and the bits of keys and of values that it stands for."""

KV_GROUP_SIZES = (32, 64, 128)


def check_kv_bits(kv_bits: int | str | None, kv_group_size: int, cache_layout: str, kv_at_rest: str) -> None:
    """Raise :class:`UnsupportedPrecisionError`, which says what would work, unless caches can be quantised so."""
    if kv_group_size not in KV_GROUP_SIZES:
        sizes = ", ".join(map(str, KV_GROUP_SIZES))
        raise UnsupportedPrecisionError(f"kv_group_size must be one of {sizes}, got {kv_group_size!r}")
    if kv_bits is None:
        return
    if kv_bits not in KV_BITS or isinstance(kv_bits, bool):
        raise UnsupportedPrecisionError(f"kv_bits must be 8, 4 or 8/4 (keys / values), got {kv_bits!r}")
    if cache_layout == "paged":
        raise UnsupportedPrecisionError(
            f'pages hold exact keys and values, so with kv_bits={kv_bits} cache_layout can\'t be "paged"; '
            'leave it at "auto"'
        )
    if kv_at_rest != "exact":
        raise UnsupportedPrecisionError(
            f"kv_bits={kv_bits} lie at rest as they are computed, so kv_at_rest can't be {kv_at_rest!r}; "
            'leave it at "exact", or kv_bits out'
        )


def bits_of_sides(kv_bits: int | str) -> tuple[int, int]:
    """The bits of keys and of values; ``kv_bits`` was checked."""
    return KV_BITS[kv_bits]
