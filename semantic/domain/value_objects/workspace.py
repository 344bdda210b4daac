"""What a step needs besides keys and values."""

from attrs import field, frozen

from semantic.domain.value_objects._checks import require_int


def _not_negative(_: object, attribute: object, value: int) -> None:
    require_int(getattr(attribute, "name", "bytes"), value, 0)


@frozen(kw_only=True)
class Workspace:
    """The most bytes that a step takes for activations, logits and buffers.

    ``fixed_bytes`` whatever is computed, and ``bytes_per_context_token`` for each token that a chunk attends to:
    nothing where attention runs over tiles, the scores of all heads where they are computed at once.
    """

    fixed_bytes: int = field(default=0, validator=_not_negative)
    bytes_per_context_token: int = field(default=0, validator=_not_negative)

    def bytes_for_context(self, num_tokens: int) -> int:
        """Bytes beyond the fixed ones while a chunk attends to so many tokens."""
        return self.bytes_per_context_token * num_tokens
