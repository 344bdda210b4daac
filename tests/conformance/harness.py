"""Runs a model of the zoo through everything that an engine does with contexts, and holds each token and each step's
log-probabilities against ``mlx_lm.generate_step`` on the whole context, with the same chunk size.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from attrs import define, field, frozen
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import CacheList, make_prompt_cache
from tiny_zoo import build_zoo_model

import semantic
from semantic.adapters.mlx.sampler import Sampler
from semantic.application.ports.model import ModelProfile
from semantic.domain.value_objects import Completion

Array = np.ndarray[Any, Any]

CHUNK = 16
TOLERANCE = 1e-3
"""Largest allowed difference of log-probabilities, as a share of their spread. Rounding moves them by 1e-5 of it; a
window that is one token off, a wrong position or a lost state moves them by more than 1e-2."""

PROMPT_TOKENS = (5, 23, 40)
"""Less than a window, more than one chunk, more than two."""

REMEMBERED = 262
"""More than a block, and its end in the middle of a chunk."""


def ids(tokens: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 128, tokens)]


PROMPTS = [ids(tokens, seed=tokens) for tokens in PROMPT_TOKENS]


class NotEqualError(AssertionError):
    """The engine said something else than mlx_lm."""


@frozen
class Expected:
    """What mlx_lm drew, and the log-probabilities that it drew from, ``[steps, vocabulary]``."""

    tokens: tuple[int, ...]
    logprobs: Array

    def of(self, steps: int) -> "Expected":
        """The first of them."""
        return Expected(self.tokens[:steps], self.logprobs[:steps])


@define
class Recorder:
    """What each token was chosen from, by the request's seed and the token's place in its output.

    Behind a draft's first wrong token more is seen than is drawn; when the place is drawn for good it is seen again.
    """

    steps: dict[int, dict[int, Array]] = field(factory=dict)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        choose, steps = Sampler.choose, self.steps

        def noting(sampler: Sampler, logits: mx.array, rows: Any) -> list[int]:
            for row, logprobs in zip(rows, _logprobs(logits), strict=True):
                steps.setdefault(row.seed, {})[row.index] = logprobs
            return choose(sampler, logits, rows)

        Sampler.choose = noting  # type: ignore[method-assign]
        try:
            yield
        finally:
            Sampler.choose = choose  # type: ignore[method-assign]


def _logprobs(logits: mx.array) -> Array:
    rows = np.array(logits.astype(mx.float32))
    peak = rows.max(axis=-1, keepdims=True)
    return rows - peak - np.log(np.exp(rows - peak).sum(axis=-1, keepdims=True))


@define
class Examination:
    """One model under examination. Scenarios raise :class:`NotEqualError`; each is run once, in any order."""

    name: str
    model: nn.Module
    folder: Path
    profile: ModelProfile | None = None
    largest_difference: float = 0.0
    _expected: dict[tuple[Any, ...], Expected] = field(factory=dict)

    @classmethod
    def of(cls, name: str, folder: Path) -> "Examination":
        return cls(name, build_zoo_model(name), folder)

    # -- the two sides ---------------------------------------------------------------------------

    def expected(self, context: Sequence[int], steps: int) -> Expected:
        """The first ``steps`` of mlx_lm's own run, from nothing."""
        key = tuple(context)
        if key not in self._expected or len(self._expected[key].tokens) < steps:
            drawn = list(generate_step(mx.array(context), self.model, max_tokens=steps, prefill_step_size=CHUNK))
            logprobs = np.stack([np.array(logprobs.astype(mx.float32)) for _, logprobs in drawn])
            self._expected[key] = Expected(tuple(token for token, _ in drawn), logprobs)
        return self._expected[key].of(steps)

    @contextlib.contextmanager
    def opened(self, **options: Any) -> Iterator[tuple[semantic.Engine, Recorder]]:
        """An engine on the model, and a recorder of its steps."""
        recorder = Recorder()
        options = {"memory": "64MB", "prefill_step_size": CHUNK, **options}
        with recorder.listening(), semantic.open((self.model, None), **options) as engine:
            self.profile = engine.profile
            yield engine, recorder

    def hold(self, done: Completion, steps: Mapping[int, Array], context: Sequence[int]) -> None:
        """Compare a completion and its steps with mlx_lm's run on the whole ``context``."""
        expected = self.expected(context, len(done.token_ids))
        if not np.isfinite(expected.logprobs).all():
            raise NotEqualError(f"{self.name}: mlx_lm's own log-probabilities are not finite")
        spread = float(np.ptp(expected.logprobs))
        seen = np.stack([steps[index] for index in range(len(expected.logprobs))])
        off = float(np.abs(seen - expected.logprobs).max()) / spread
        self.largest_difference = max(self.largest_difference, off)
        if done.token_ids != expected.tokens:
            raise NotEqualError(f"{self.name}: {done.token_ids}, mlx_lm draws {expected.tokens}")
        if off > TOLERANCE:
            raise NotEqualError(f"{self.name}: log-probabilities are off by {off:.2g} of their spread")

    # -- scenarios -------------------------------------------------------------------------------

    def together(self) -> None:
        """Each prompt alone, all three at once, and joining and leaving while others run."""
        with self.opened(prefix_caching=False) as (engine, recorder):
            for run in (_alone, _at_once, _joining_and_leaving):
                recorder.steps.clear()
                for number, done in enumerate(run(engine)):
                    self.hold(done, recorder.steps[number], PROMPTS[number])

    def remembered(self) -> None:
        """A context goes on turn by turn, is forked, and both ways go on at once; then again after a restart."""
        with self.opened(store=self.folder) as (engine, recorder):
            alice = engine.agent("alice")
            self._turn(alice, recorder, ids(REMEMBERED), seed=0)
            self._turn(alice, recorder, ids(7, seed=1), seed=1)
            bob = alice.fork("bob")
            self._turn(bob, recorder, ids(19, seed=2), seed=2)
            self._turn(alice, recorder, ids(9, seed=3), seed=3)
        with self.opened(store=self.folder) as (engine, recorder):
            for number, name in enumerate(("bob", "alice")):
                done = self._turn(engine.agent(name), recorder, ids(5, seed=4 + number), seed=4 + number)
                if self.reuses_ends and not done.usage.cached_tokens:
                    raise NotEqualError(f"{self.name}: nothing came back from the store")

    @property
    def caches(self) -> str:
        """The kinds of mlx_lm's caches that the layers keep."""
        return ", ".join(dict.fromkeys(map(_kind, make_prompt_cache(self.model))))

    @property
    def reuses_ends(self) -> bool:
        """Whether a context can be taken up just where it ended."""
        assert self.profile is not None
        return self.profile.reuse in ("anywhere", "at states")

    def _turn(self, agent: Any, recorder: Recorder, said: list[int], seed: int) -> Completion:
        context = [*agent.tokens, *said]
        done: Completion = agent.generate(said, max_tokens=5, seed=seed)
        self.hold(done, recorder.steps[seed], context)
        return done


def _kind(cache: Any) -> str:
    inner = f"[{', '.join(map(_kind, cache.caches))}]" if isinstance(cache, CacheList) else ""
    return type(cache).__name__ + inner


def _alone(engine: semantic.Engine) -> list[Completion]:
    return [engine.generate(prompt, max_tokens=6, seed=number) for number, prompt in enumerate(PROMPTS)]


def _at_once(engine: semantic.Engine) -> list[Completion]:
    requests = [engine.submit(prompt, max_tokens=6, seed=number) for number, prompt in enumerate(PROMPTS)]
    return [request.result() for request in requests]


def _joining_and_leaving(engine: semantic.Engine) -> list[Completion]:
    """The second joins while the first runs, the third when the second is about to leave."""
    first = engine.submit(PROMPTS[0], max_tokens=12, seed=0)
    others = []
    for number, _ in enumerate(first):
        if number in (1, 4):
            which = len(others) + 1
            others.append(engine.submit(PROMPTS[which], max_tokens=4, seed=which))
    return [request.result() for request in (first, *others)]


SCENARIOS: dict[str, Callable[[Examination], None]] = {
    "together": Examination.together,
    "remembered": Examination.remembered,
}
