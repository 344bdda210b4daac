"""How much prompt a step may read while others wait for their next token."""

LEAST_TOKENS = 16
"""Shorter chunks cost nearly as much as this."""

_FIRST_TOKENS = 32
_TOO_LONG, _SHORT = 0.9, 0.4


class Pacing:
    """Chunk sizes that keep the gap between two tokens of a running sequence under ``target_s``.

    A gap is a chunk and a step. When it came near the target, the next chunk is half as long; when twice the chunk
    would still fit, twice as long. ``target_s=None`` always gives whole chunks.
    """

    def __init__(self, target_s: float | None, step_tokens: int) -> None:
        self._target_s, self._step_tokens = target_s, step_tokens
        self._tokens = step_tokens if target_s is None else min(_FIRST_TOKENS, step_tokens)

    def limit(self, *, is_decoding: bool) -> int:
        """Tokens of the next chunk: whole ones as long as no sequence waits for a token."""
        return self._tokens if is_decoding else self._step_tokens

    def note(self, prefilled_tokens: int, gap_s: float) -> None:
        """A step of at most :meth:`limit` prompt tokens took so long, its decode included."""
        if self._target_s is None:
            return
        if gap_s > _TOO_LONG * self._target_s:
            self._tokens = max(min(LEAST_TOKENS, self._step_tokens), self._tokens // 2)
        elif gap_s < _SHORT * self._target_s and prefilled_tokens >= self._tokens:
            self._tokens = min(self._step_tokens, self._tokens * 2)
