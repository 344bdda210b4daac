"""How a sealed block's keys and values are stored once they are quantised, and what that costs."""

from attrs import frozen

from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects._checks import require_int
from semantic.domain.value_objects.layer_spec import LayerKind, LayerSpec

KEY_LEVELS = {8: 256, 4: 32}
VALUE_LEVELS = {8: 256, 4: 16}
VALUE_LEVELS_BESIDE_4_BIT_KEYS = 11

CODES = 3
"""Raised when the same bytes come to stand for other numbers."""

_HALF_BITS_OF_LEVELS = {256: 16, 32: 10, 16: 8, 11: 7}  # two codes of 11 levels fill 7 bits: 121 of 128
_PACKED_TOGETHER = 16  # codes that fill whole bytes at every width
_HALF = 2  # bytes of a 16-bit float
_MULTIPLE = 8


def packed_bytes(levels: int, count: int) -> int:
    """Bytes of ``count`` codes of ``levels`` levels, filled up to a multiple of 16 codes."""
    return -(-count // _PACKED_TOGETHER) * _HALF_BITS_OF_LEVELS[levels]


@frozen(kw_only=True)
class RestPrecision:
    """Codes of ``key_levels`` and ``value_levels`` levels, with 16-bit scales.

    Keys: the block's first token as 16-bit floats; of the others, each channel has a scale and an offset for every
    ``key_group`` tokens. Values: a scale for every ``value_group`` elements of a head's vector. Use :meth:`of`, which
    knows how many levels go together. Raises :class:`InvalidSpecError` naming the field.
    """

    key_levels: int
    value_levels: int
    key_group: int = 128
    value_group: int = 64

    @classmethod
    def of(cls, key_bits: int, value_bits: int | None = None, *, value_group: int = 64) -> "RestPrecision":
        """8 or 4 bits for keys, and for values (``None``: as keys).

        4 bits for both are 32 levels (5 bits) for keys and 11 (3.5 bits) for values: as many bytes as 16 levels each,
        and a quarter of the error, since attention forgives less in keys.
        """
        value_bits = key_bits if value_bits is None else value_bits
        for name, bits in (("key_bits", key_bits), ("value_bits", value_bits)):
            if isinstance(bits, bool) or bits not in KEY_LEVELS:
                raise InvalidSpecError(f"{name} must be 8 or 4, got {bits!r}")
        both = (key_bits, value_bits) == (4, 4)
        levels = VALUE_LEVELS_BESIDE_4_BIT_KEYS if both else VALUE_LEVELS[value_bits]
        return cls(key_levels=KEY_LEVELS[key_bits], value_levels=levels, value_group=value_group)

    def __attrs_post_init__(self) -> None:
        for name in ("key_levels", "value_levels"):
            if getattr(self, name) not in _HALF_BITS_OF_LEVELS:
                raise InvalidSpecError(
                    f"{name} must be one of {', '.join(map(str, _HALF_BITS_OF_LEVELS))}, got {getattr(self, name)!r}"
                )
        require_int("key_group", self.key_group, _MULTIPLE)
        require_int("value_group", self.value_group, _MULTIPLE)
        if self.value_group % _MULTIPLE:
            raise InvalidSpecError(f"value_group must be a multiple of {_MULTIPLE}, got {self.value_group!r}")

    def check(self, key_dim: int, value_dim: int) -> None:
        """Raise :class:`InvalidSpecError` unless heads of these widths can be stored."""
        if key_dim % _MULTIPLE:
            raise InvalidSpecError(f"key_head_dim must be a multiple of {_MULTIPLE} to be quantised, got {key_dim}")
        if value_dim % self.value_group:
            raise InvalidSpecError(
                f"value_group {self.value_group} does not divide value_head_dim {value_dim}; choose a multiple of "
                f"{_MULTIPLE} that does"
            )

    def key_groups(self, tokens: int) -> int:
        """Groups of a block of ``tokens`` tokens: the first token is in none, the last group may be smaller."""
        return -(-max(0, tokens - 1) // self.key_group)

    def key_bytes(self, heads: int, tokens: int, dim: int) -> int:
        """Bytes of the keys of a block of ``tokens`` tokens in one layer."""
        first = min(1, tokens)
        scales = 2 * self.key_groups(tokens)
        return packed_bytes(self.key_levels, heads * (tokens - first) * dim) + heads * dim * (first + scales) * _HALF

    def value_bytes(self, heads: int, tokens: int, dim: int) -> int:
        """Bytes of the values of a block of ``tokens`` tokens in one layer."""
        count = heads * tokens * dim
        return packed_bytes(self.value_levels, count) + count // self.value_group * _HALF

    def layer_bytes(self, layer: LayerSpec, tokens: int) -> int:
        """Bytes of one layer's part of a block of ``tokens`` tokens; of a recurrent layer none are quantised."""
        if layer.kind is LayerKind.RECURRENT:
            return 0
        self.check(layer.key_head_dim, layer.value_head_dim)
        keys = self.key_bytes(layer.kv_heads, tokens, layer.key_head_dim)
        return keys + self.value_bytes(layer.kv_heads, tokens, layer.value_head_dim)

    def bits_per_value(self, layer: LayerSpec, tokens: int) -> float:
        """Bits that one number of a block of ``tokens`` tokens takes on average, scales and offsets included."""
        numbers = layer.kv_heads * tokens * (layer.key_head_dim + layer.value_head_dim)
        return 8 * self.layer_bytes(layer, tokens) / numbers
