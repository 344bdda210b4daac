"""A model without tensors: the next token is a hash of the tokens so far, and the cache really holds them.

Its memory (:mod:`semantic.adapters.fakes.memory`) notices what a real one would get wrong silently.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from semantic.adapters.fakes.memory import FakeCache, FakeContiguousMemory, FakeMemory
from semantic.adapters.fakes.tokenizer import VOCAB_SIZE
from semantic.application.ports.model import DecodeRow, Drawn, ModelProfile
from semantic.domain.value_objects import ModelCacheSpec, Reuse

FAKE_FINGERPRINT = hashlib.sha256(b"fake").hexdigest()

_LETTERS = [byte + 1 for byte in b" abcdefghijklmnopqrstuvwxyz"]


def fake_next_token(token_ids: Sequence[int]) -> int:
    """The greedy next token of :class:`FakeModel`: a letter or a space, decided by every token before it."""
    digest = hashlib.sha256(struct.pack(f"<{len(token_ids)}q", *token_ids)).digest()
    return _LETTERS[digest[0] % len(_LETTERS)]


def _sampled_token(token_ids: Sequence[int], seed: int, index: int) -> int:
    return fake_next_token([*token_ids, seed % 2**62, index])


def _drawn(row: DecodeRow, token_id: int) -> Drawn:
    """What a row draws that would choose ``token_id``."""
    if not row.sampling.changes_logits and row.sampling.logprobs is None:
        return Drawn(token_id)
    from semantic.adapters.fakes.logits import draw  # imports numpy, which few tests need

    return draw(row, token_id)


class FakeModel:
    """Fulfils the model port. ``choose`` replaces the next-token rule; ``fail_on`` makes a token raise when fed.

    ``layout="contiguous"`` with ``reuse=Reuse.AT_STATES`` behaves like a model with windows or recurrent state.
    ``verifies_drafts`` is the profile's.
    """

    def __init__(
        self,
        *,
        choose: Callable[[Sequence[int]], int] = fake_next_token,
        fail_on: int | None = None,
        context_length: int | None = 4096,
        prefill_step_size: int = 16,
        block_tokens: int = 16,
        reuse: Reuse = Reuse.ANYWHERE,
        layout: str = "paged",
        verifies_drafts: str = "together",
    ) -> None:
        spec = ModelCacheSpec.uniform(num_layers=2, kv_heads=2, head_dim=8, block_tokens=block_tokens, group_size=8)
        self.profile = ModelProfile(
            name="fake",
            vocab_size=VOCAB_SIZE,
            context_length=context_length,
            cache_spec=spec,
            compute_dtype="float16",
            device="none",
            batching="ragged",
            cache_layout=layout,
            prefill_step_size=prefill_step_size,
            reuse=reuse,
            fingerprint=FAKE_FINGERPRINT,
            verifies_drafts=verifies_drafts,
        )
        self.memory: Any = FakeMemory(spec) if layout == "paged" else FakeContiguousMemory(spec, reuse)
        self.forwards: list[str] = []
        self.is_released = False
        self._choose, self._fail_on = choose, fail_on

    def with_prefill_step_size(self, tokens: int) -> "FakeModel":
        """The same model with another chunk size."""
        self.profile = attrs.evolve(self.profile, prefill_step_size=tokens)
        return self

    def prefill(self, cache: Any, token_ids: Sequence[int]) -> None:
        """Write a chunk."""
        self.forwards.append(f"prefill {len(token_ids)}")
        self._feed(token_ids)
        cache.append(token_ids)

    def decode(self, rows: Sequence[DecodeRow]) -> list[tuple[Drawn, ...]]:
        """Write each row's token, choose its next one, and go on as long as that is what its draft says."""
        self.forwards.append(f"decode {len(rows)}")
        self._feed([row.token_id for row in rows])
        return [self._verify(row) for row in rows]

    def release(self) -> None:
        """Drop all blocks."""
        self.is_released = True
        self.memory.clear()

    def _feed(self, token_ids: Sequence[int]) -> None:
        if self._fail_on is not None and self._fail_on in token_ids:
            raise RuntimeError(f"the fake model was told to fail on token {self._fail_on}")

    def _verify(self, row: DecodeRow) -> tuple[Drawn, ...]:
        cache, guessed = row.cache, row.draft if self.profile.verifies_drafts != "never" else ()
        assert isinstance(cache, FakeCache)
        start = cache.num_tokens
        cache.append([row.token_id, *guessed])  # as a forward does that verifies them all at once
        held, drawn = cache.token_ids, list[Drawn]()
        for i in range(len(guessed) + 1):
            history = (*row.history, *guessed[:i]) if row.history else ()
            here = attrs.evolve(row, index=row.index + i, history=history)
            drawn.append(_drawn(here, self._next(held[: start + i + 1], here)))
            if (drawn[-1].token_id,) != guessed[i : i + 1]:
                break
        self.memory.trim(cache, start + len(drawn))
        return tuple(drawn)

    def _next(self, token_ids: Sequence[int], row: DecodeRow) -> int:
        return self._choose(token_ids) if row.sampling.is_greedy else _sampled_token(token_ids, row.seed, row.index)
