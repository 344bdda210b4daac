"""What one layer of a model keeps per token and per sequence."""

from enum import StrEnum

from attrs import frozen

from semantic.domain.errors import InvalidSpecError
from semantic.domain.value_objects._checks import require_int
from semantic.domain.value_objects.kv_precision import KVPrecision


class LayerKind(StrEnum):
    """What a layer remembers of the tokens before.

    ``FULL``: keys and values of every token. ``SLIDING``: of the last ``window`` tokens. ``LATENT``: one
    latent vector and one rope part of every token, shared by all heads. ``RECURRENT``: a state whose size no
    token changes.
    """

    FULL = "full"
    SLIDING = "sliding"
    LATENT = "latent"
    RECURRENT = "recurrent"


@frozen(kw_only=True)
class LayerSpec:
    """One layer's cache. Use the constructor of its kind: ``full``, ``sliding``, ``latent`` or ``recurrent``.

    Keys are ``[kv_heads, tokens, key_head_dim]`` and values ``[kv_heads, tokens, value_head_dim]`` for one
    sequence. ``window`` is in tokens and only for sliding layers; ``state_bytes`` is per sequence and only
    for recurrent ones. Raises :class:`InvalidSpecError` naming the field.
    """

    kind: LayerKind
    kv_heads: int = 0
    key_head_dim: int = 0
    value_head_dim: int = 0
    window: int | None = None
    state_bytes: int = 0

    @classmethod
    def full(cls, kv_heads: int, key_head_dim: int, value_head_dim: int | None = None) -> "LayerSpec":
        """A layer that attends to every token. Without ``value_head_dim``, values are as wide as keys."""
        value_head_dim = key_head_dim if value_head_dim is None else value_head_dim
        return cls(kind=LayerKind.FULL, kv_heads=kv_heads, key_head_dim=key_head_dim, value_head_dim=value_head_dim)

    @classmethod
    def sliding(cls, window: int, kv_heads: int, key_head_dim: int, value_head_dim: int | None = None) -> "LayerSpec":
        """A layer that attends to the last ``window`` tokens."""
        value_head_dim = key_head_dim if value_head_dim is None else value_head_dim
        return cls(
            kind=LayerKind.SLIDING,
            kv_heads=kv_heads,
            key_head_dim=key_head_dim,
            value_head_dim=value_head_dim,
            window=window,
        )

    @classmethod
    def latent(cls, key_dim: int, value_dim: int) -> "LayerSpec":
        """A layer that keeps one vector of each width per token; one of the two may be 0."""
        return cls(kind=LayerKind.LATENT, kv_heads=1, key_head_dim=key_dim, value_head_dim=value_dim)

    @classmethod
    def recurrent(cls, state_bytes: int) -> "LayerSpec":
        """A layer with a state of ``state_bytes`` per sequence and nothing per token."""
        return cls(kind=LayerKind.RECURRENT, state_bytes=state_bytes)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.kind, LayerKind):
            raise InvalidSpecError(f"kind must be a LayerKind, got {self.kind!r}")
        if self.kind is LayerKind.RECURRENT:
            self._check_state()
        else:
            self._check_heads()
        if self.kind is LayerKind.SLIDING:
            require_int("window", self.window, 1)
        elif self.window is not None:
            raise InvalidSpecError(f"window is for sliding layers only, got {self.window!r} on a {self.kind} one")

    def _check_state(self) -> None:
        require_int("state_bytes", self.state_bytes, 1)
        for name in ("kv_heads", "key_head_dim", "value_head_dim"):
            if getattr(self, name) != 0:
                raise InvalidSpecError(f"{name} must be 0 on a recurrent layer, got {getattr(self, name)!r}")

    def _check_heads(self) -> None:
        if self.state_bytes != 0:
            raise InvalidSpecError(
                f"state_bytes is for recurrent layers only, got {self.state_bytes!r} on a {self.kind} one"
            )
        require_int("kv_heads", self.kv_heads, 1)
        least = 0 if self.kind is LayerKind.LATENT else 1
        require_int("key_head_dim", self.key_head_dim, least)
        require_int("value_head_dim", self.value_head_dim, least)
        if self.key_head_dim + self.value_head_dim == 0:
            raise InvalidSpecError("key_head_dim and value_head_dim are both 0: the layer would keep nothing")

    @property
    def has_blocks(self) -> bool:
        """Whether the layer keeps anything per token."""
        return self.kind is not LayerKind.RECURRENT

    def bytes_per_token(self, precision: KVPrecision) -> int:
        """Bytes of one token's keys and values in this layer."""
        return self.kv_heads * precision.vector_bytes(self.key_head_dim, self.value_head_dim)

    def most_blocks(self, num_blocks: int, block_tokens: int) -> int:
        """Blocks this layer holds at most of a sequence that grew to ``num_blocks`` blocks.

        A window of ``w`` tokens touches at most ``ceil((w - 1) / block_tokens) + 1`` consecutive blocks; the
        older ones can be dropped whole. Full and latent layers hold all, recurrent ones none.
        """
        if self.kind is LayerKind.RECURRENT:
            return 0
        if self.window is None:
            return num_blocks
        return min(num_blocks, -(-(self.window - 1) // block_tokens) + 1)
