"""What an engine is opened with."""

from collections.abc import Callable

from attrs import Attribute, field, frozen

from semantic.application.kv_bits import check_kv_bits
from semantic.domain.errors import InvalidRequestError

EXACTNESS = ("token", "bit")
CACHE_LAYOUTS = ("auto", "paged", "contiguous")
KV_AT_REST = ("exact", "8", "8/4", "4")


_POSITIVE = ("max_num_seqs", "max_waiting", "max_token_gap_ms", "prefill_step_size", "memory_bytes", "store_bytes")


def _one_of(known: tuple[str, ...]) -> "Callable[[object, Attribute[str], str], None]":
    def check(_: object, attribute: "Attribute[str]", value: str) -> None:
        if value not in known:
            raise InvalidRequestError(f"{attribute.name} must be one of {', '.join(known)}, got {value!r}")

    return check


@frozen(kw_only=True)
class EngineOptions:
    """``memory_bytes``: budget of the KV block pool. ``prefill_step_size``: tokens per chunk, None for the lane's own.

    ``exactness``: ``"token"`` gives mlx_lm's tokens, fast; ``"bit"`` keeps its operations and shapes (ADR 0004).
    ``max_num_seqs`` sequences run together at most, ``max_waiting`` wait. While some decode, prompts are read in chunks
    that keep the gap between two of their tokens under ``max_token_gap_ms``; None always reads whole chunks.
    ``kv_bits``: 8, ``"8/4"`` (keys / values) or 4 to quantise keys and values as they are computed, from the first
    token on, in groups of ``kv_group_size``; None keeps them exact.
    ``store``: folder in which blocks and agents outlive the process, of at most ``store_bytes``. Without
    ``prefix_caching`` every prompt is computed from its beginning. ``kv_at_rest``: bits of keys and values in blocks
    that nobody computes on, in memory and in the store; keys / values where they differ.
    ``prompt_lookup_num_tokens``: most tokens that are drafted at once from what the context said before, 0 for none;
    the output is the same (ADR 0021). Raises :class:`InvalidRequestError` naming the option.
    """

    memory_bytes: int
    exactness: str = field(default="token", validator=_one_of(EXACTNESS))
    cache_layout: str = field(default="auto", validator=_one_of(CACHE_LAYOUTS))
    max_num_seqs: int = 16
    max_waiting: int = 4096
    max_token_gap_ms: float | None = 500.0
    kv_bits: int | str | None = None
    kv_group_size: int = 64
    prefill_step_size: int | None = None
    prefix_caching: bool = True
    kv_at_rest: str = field(default="exact", validator=_one_of(KV_AT_REST))
    store: str | None = None
    store_bytes: int | None = None
    prompt_lookup_num_tokens: int = 15

    def __attrs_post_init__(self) -> None:
        check_kv_bits(self.kv_bits, self.kv_group_size, self.cache_layout, self.kv_at_rest)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidRequestError(f"{name} must be positive, got {value!r}")
        if self.prompt_lookup_num_tokens < 0:
            raise InvalidRequestError(
                f"prompt_lookup_num_tokens must be a number of tokens, 0 for none, got {self.prompt_lookup_num_tokens}"
            )
        if self.exactness == "bit" and self.kv_at_rest != "exact":
            raise InvalidRequestError(
                f'exactness="bit" reuses what mlx_lm computed, so kv_at_rest can\'t be {self.kv_at_rest!r}; '
                'leave it at "exact"'
            )
        if self.kv_bits is not None and self.kv_at_rest != "exact":
            raise InvalidRequestError(
                f"kv_bits={self.kv_bits!r} keeps blocks in the codes that it computes with, so kv_at_rest can't be "
                f"{self.kv_at_rest!r}; set one of the two"
            )
        if self.exactness == "bit" and self.cache_layout == "paged":
            raise InvalidRequestError(
                'exactness="bit" runs mlx_lm\'s own caches, so cache_layout can\'t be "paged"; leave it at "auto"'
            )
