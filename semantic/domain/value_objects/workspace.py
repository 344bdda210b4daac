"""What a step needs besides keys and values."""

from attrs import field, frozen

from semantic.domain.value_objects._checks import require_int


def _not_negative(_: object, attribute: object, value: int) -> None:
    require_int(getattr(attribute, "name", "bytes"), value, 0)


@frozen(kw_only=True)
class Workspace:
    """The most bytes that a step takes for activations, logits and buffers.

    ``fixed_bytes`` whatever is computed, ``cache_bytes`` of them for buffers that were freed and are used again. Where
    the scores of a whole chunk of ``chunk_tokens`` are computed at once, ``bytes_per_score`` for each query and key,
    and ``bytes_per_context_token`` for what is copied as caches grow.
    """

    fixed_bytes: int = field(default=0, validator=_not_negative)
    cache_bytes: int = field(default=0, validator=_not_negative)
    chunk_tokens: int = field(default=0, validator=_not_negative)
    bytes_per_score: int = field(default=0, validator=_not_negative)
    bytes_per_context_token: int = field(default=0, validator=_not_negative)

    @property
    def depends_on_context(self) -> bool:
        """Whether long contexts need more than short ones."""
        return self.bytes_per_score > 0 or self.bytes_per_context_token > 0

    def bytes_for_context(self, num_tokens: int) -> int:
        """Bytes beyond the fixed ones while the last chunk of so many tokens is computed."""
        return num_tokens * (self.bytes_per_score * min(self.chunk_tokens, num_tokens) + self.bytes_per_context_token)
