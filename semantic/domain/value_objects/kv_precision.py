"""How one number of the KV cache is stored."""

from attrs import frozen

from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects._checks import require_int

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
QUANTISED_BITS = (4, 8)
WORD_ELEMENTS = 8  # elements that fill whole 32-bit words at either width; a group must not split a word


@frozen(kw_only=True)
class KVPrecision:
    """The precision of keys and values: as computed (``bits=None``), or 8 or 4 bits in groups along a head.

    ``value_bits``: those of values where they differ from the keys' ``bits``.
    ``dtype`` is the element type when nothing is quantised. A quantised group of ``group_size`` elements has
    one scale and one bias of ``scale_dtype``, by default ``dtype`` as in ``mx.quantize``: float32 therefore
    costs 5.0 bits a value at 4 bit g64, and 4.5 with ``scale_dtype="float16"``. Raises
    :class:`InvalidSpecError` naming the field.
    """

    bits: int | None = None
    value_bits: int | None = None
    group_size: int = 64
    dtype: str = "float16"
    scale_dtype: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.bits is not None and self.bits not in QUANTISED_BITS:
            raise InvalidSpecError(f"bits must be None, 8 or 4, got {self.bits!r}")
        if self.value_bits is not None and (self.bits is None or self.value_bits not in QUANTISED_BITS):
            raise InvalidSpecError(
                f"value_bits must be None (same as bits), or 8 or 4 beside bits, got {self.value_bits!r} "
                f"beside {self.bits!r}"
            )
        require_int("group_size", self.group_size, WORD_ELEMENTS)
        if self.group_size % WORD_ELEMENTS:
            raise InvalidSpecError(f"group_size must be a multiple of {WORD_ELEMENTS}, got {self.group_size!r}")
        if self.dtype not in DTYPE_BYTES:
            raise InvalidSpecError(f"dtype must be one of {', '.join(DTYPE_BYTES)}, got {self.dtype!r}")
        if self.scale_dtype is not None and self.scale_dtype not in DTYPE_BYTES:
            raise InvalidSpecError(
                f"scale_dtype must be None (same as dtype) or one of {', '.join(DTYPE_BYTES)}, got {self.scale_dtype!r}"
            )

    @property
    def is_quantised(self) -> bool:
        """Whether elements are stored in fewer bits than they are computed in."""
        return self.bits is not None

    @property
    def element_bytes(self) -> int:
        """Bytes of one element as computed."""
        return DTYPE_BYTES[self.dtype]

    @property
    def scale_bytes(self) -> int:
        """Bytes of one scale, and of one bias."""
        return DTYPE_BYTES[self.scale_dtype or self.dtype]

    def divides(self, dim: int) -> bool:
        """Whether a vector of ``dim`` elements can be stored: unquantised always, else in whole groups."""
        return self.bits is None or dim % self.group_size == 0

    @property
    def bits_of_sides(self) -> tuple[int | None, int | None]:
        """The bits of keys, and of values."""
        return self.bits, self.bits if self.value_bits is None else self.value_bits

    def vector_bytes(self, key_dim: int, value_dim: int) -> int:
        """Bytes of one stored key and one value of so many elements (one head, one token), scales and biases too."""
        dims = zip((key_dim, value_dim), self.bits_of_sides, strict=True)
        return sum(self._bytes(dim, bits) for dim, bits in dims)

    def _bytes(self, dim: int, bits: int | None) -> int:
        if bits is None:
            return dim * self.element_bytes
        return dim * bits // 8 + dim // self.group_size * 2 * self.scale_bytes
