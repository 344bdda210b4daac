"""The shape of a model's KV cache, and what it costs in bytes."""

from collections.abc import Iterable

from attrs import field, frozen

from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects._checks import require_int
from semantic.domain.value_objects.kv_precision import KVPrecision
from semantic.domain.value_objects.layer_spec import LayerKind, LayerSpec

DEFAULT_BLOCK_TOKENS = 256


def _layers(layers: Iterable[LayerSpec]) -> tuple[LayerSpec, ...]:
    return tuple(layers)


@frozen(kw_only=True)
class ModelCacheSpec:
    """The caches of a whole model: one :class:`LayerSpec` per layer, one precision, one block size.

    A block is ``block_tokens`` consecutive tokens of one sequence, in every layer that keeps tokens.
    ``precision`` applies to keys and values alike. Raises :class:`InvalidSpecError` naming the field.
    """

    layers: tuple[LayerSpec, ...] = field(converter=_layers)
    precision: KVPrecision = field(factory=KVPrecision)
    block_tokens: int = DEFAULT_BLOCK_TOKENS

    @classmethod
    def uniform(
        cls,
        *,
        num_layers: int,
        kv_heads: int,
        head_dim: int,
        value_head_dim: int | None = None,
        layer_kinds: Iterable[LayerKind | str] | None = None,
        window: int | None = None,
        dtype: str = "float16",
        kv_bits: int | None = None,
        group_size: int = 64,
        scale_dtype: str | None = None,
        block_tokens: int = DEFAULT_BLOCK_TOKENS,
    ) -> "ModelCacheSpec":
        """Layers of equal heads and widths: all full attention, or of the kinds in ``layer_kinds``."""
        require_int("num_layers", num_layers, 1)
        kinds = [LayerKind.FULL] * num_layers if layer_kinds is None else [_kind(kind) for kind in layer_kinds]
        if len(kinds) != num_layers:
            raise InvalidSpecError(f"layer_kinds must name {num_layers} layers (num_layers), got {len(kinds)}")
        if window is not None and LayerKind.SLIDING not in kinds:
            raise InvalidSpecError(f"window is {window!r} and layer_kinds names no sliding layer")
        values = head_dim if value_head_dim is None else value_head_dim
        return cls(
            layers=tuple(
                LayerSpec(
                    kind=kind,
                    kv_heads=kv_heads,
                    key_head_dim=head_dim,
                    value_head_dim=values,
                    window=window if kind is LayerKind.SLIDING else None,
                )
                for kind in kinds
            ),
            precision=KVPrecision(bits=kv_bits, group_size=group_size, dtype=dtype, scale_dtype=scale_dtype),
            block_tokens=block_tokens,
        )

    def __attrs_post_init__(self) -> None:
        if not self.layers:
            raise InvalidSpecError("layers is empty; a model has at least one layer")
        require_int("block_tokens", self.block_tokens, 1)
        for index, layer in enumerate(self.layers):
            for name in ("key_head_dim", "value_head_dim"):
                dim = getattr(layer, name)
                if not self.precision.divides(dim):
                    raise InvalidSpecError(
                        f"group_size {self.precision.group_size} does not divide {name} {dim} "
                        f"of layer {index}; choose a group size that does, or bits=None"
                    )

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def bytes_per_token(self) -> int:
        """Bytes by which a long sequence grows with each token: the full and latent layers."""
        return sum(layer.bytes_per_token(self.precision) for layer in self.layers if layer.window is None)

    @property
    def bytes_per_block(self) -> int:
        """The most bytes one block takes: in every layer that keeps tokens, sliding ones included."""
        return self.block_tokens * sum(layer.bytes_per_token(self.precision) for layer in self.layers)

    @property
    def state_bytes_per_sequence(self) -> int:
        """Bytes a sequence takes however long it is: the recurrent layers' state."""
        return sum(layer.state_bytes for layer in self.layers)

    def state_bytes_at(self, num_tokens: int) -> int:
        """Bytes of the layers that can't be cut back, after so many tokens: windows as far as they are filled."""
        windows = sum(
            min(num_tokens, layer.window) * layer.bytes_per_token(self.precision)
            for layer in self.layers
            if layer.window is not None
        )
        return windows + self.state_bytes_per_sequence

    def live_bytes_at(self, num_tokens: int) -> int:
        """Bytes of one sequence of so many tokens that grows block by block and drops what leaves a window at once."""
        rows = self.blocks_for_tokens(num_tokens) * self.block_tokens * self.bytes_per_token
        return rows + self.state_bytes_at(num_tokens)

    def blocks_for_tokens(self, num_tokens: int) -> int:
        """Blocks that hold ``num_tokens`` tokens of one sequence; the last one may be partly filled."""
        require_int("num_tokens", num_tokens, 0)
        return -(-num_tokens // self.block_tokens)

    def bytes_for_tokens(self, num_tokens: int) -> int:
        """The most bytes one sequence takes on its way to ``num_tokens`` tokens: whole blocks, and its state.

        Full and latent layers hold every block. A sliding layer holds the blocks its window touches, which is
        at most ``ceil((window - 1) / block_tokens) + 1`` however the window lies (window 512 over blocks of
        256: 3, since it can straddle both ends). So the number never falls as the sequence grows, and can be
        reserved.
        """
        num_blocks = self.blocks_for_tokens(num_tokens)
        in_blocks = sum(
            layer.most_blocks(num_blocks, self.block_tokens) * layer.bytes_per_token(self.precision)
            for layer in self.layers
        )
        return in_blocks * self.block_tokens + self.state_bytes_per_sequence


def _kind(name: LayerKind | str) -> LayerKind:
    try:
        return LayerKind(name)
    except ValueError as exc:
        raise InvalidSpecError(f"layer_kinds must be of {', '.join(LayerKind)}, got {name!r}") from exc
