"""The batch engine stepped by hand: what came out of its steps, and when its store does what."""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field

from semantic.adapters.fakes import (
    FakeClock,
    FakeModel,
    FakeTokenizer,
    RecordingTelemetry,
    fake_batch_engine,
    fake_next_token,
)
from semantic.adapters.fakes.executor import FakeExecutor
from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.fakes.tokenizer import END
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.ports.model import Drawn
from semantic.application.store_tier import StoreTier
from semantic.domain.identifiers import RequestId
from semantic.domain.services.drafter import Draft
from semantic.domain.value_objects import Completion, Delta, SamplingParams, Terms


@define
class Driven:
    """A batch engine, and what came out of its steps."""

    engine: BlockPoolBatchEngine
    deltas: dict[RequestId, list[Delta]] = field(factory=dict)
    errors: dict[RequestId, Exception] = field(factory=dict)
    ends: list[RequestId] = field(factory=list)

    def submit(
        self,
        prompt: str | Sequence[int],
        *,
        namespace: str = "default",
        owner: object = None,
        boundaries: Sequence[int] = (),
        priority: str = "interactive",
        deadline_s: float | None = None,
        **sampling: Any,
    ) -> RequestId:
        token_ids = FakeTokenizer().encode(prompt) if isinstance(prompt, str) else list(prompt)
        return self.engine.submit(
            token_ids,
            SamplingParams(**sampling),
            namespace=namespace,
            owner=owner,
            boundaries=boundaries,
            terms=Terms(priority=priority, deadline_s=deadline_s),
        )

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self._take(self.engine.step())

    def cancel(self, request_id: RequestId) -> None:
        self._take([self.engine.cancel(request_id)])

    def run(self) -> None:
        for _ in range(10_000):
            if not self.engine.has_work:
                return
            self.step()
        raise AssertionError("the engine does not come to an end")

    def completion(self, request_id: RequestId) -> Completion:
        completion = self.deltas[request_id][-1].completion
        assert completion is not None
        return completion

    def cached_tokens(self, request_id: RequestId) -> int:
        return self.completion(request_id).usage.cached_tokens

    def generate(self, prompt: str | Sequence[int], **given: Any) -> Completion:
        request_id = self.submit(prompt, **given)
        self.run()
        return self.completion(request_id)

    def _take(self, outputs: Any) -> None:
        for output in outputs:
            if output.error is not None:
                self.errors[output.request_id] = output.error
            else:
                self.deltas.setdefault(output.request_id, []).append(output.delta)
            if output.error is not None or output.delta.completion is not None:
                self.ends.append(output.request_id)


def driven(model: FakeModel | None = None, **parts: Any) -> Driven:
    """A driven engine on fakes; keywords as for ``fake_batch_engine``."""
    return Driven(fake_batch_engine(model=model, **parts))


@define
class DrivenWithStore(Driven):
    """A driven engine whose store does its work only in :meth:`write`, :meth:`read` and :meth:`do_io`."""

    store: MemoryStore = field(kw_only=True)
    tier: StoreTier = field(kw_only=True)
    writer: FakeExecutor = field(kw_only=True)
    readers: FakeExecutor = field(kw_only=True)
    telemetry: RecordingTelemetry = field(kw_only=True)

    def write(self, most: int | None = None) -> int:
        """Do what waits to be written, and let the engine hear of it."""
        return self._do(self.writer, most)

    def read(self, most: int | None = None) -> int:
        """Do what waits to be read, and let the engine hear of it."""
        return self._do(self.readers, most)

    def do_io(self) -> None:
        """Write and read until nothing is left to do."""
        while self.write() + self.read():
            pass

    def run(self) -> None:
        """Steps, and the store's work between them, until there is nothing left of either."""
        for _ in range(10_000):
            self.do_io()
            if not self.engine.has_work:
                return
            self.step()
        raise AssertionError("the engine does not come to an end")

    def _do(self, executor: FakeExecutor, most: int | None) -> int:
        done = executor.run(most)
        self.engine.poll()
        return done


def driven_with_store(store: MemoryStore, model: FakeModel | None = None, **parts: Any) -> DrivenWithStore:
    """A driven engine on a store that may have blocks of an earlier engine; keywords as for ``fake_batch_engine``."""
    writer, readers = FakeExecutor(waits=True), FakeExecutor(waits=True)
    telemetry = RecordingTelemetry()
    tier = StoreTier(store, writer=writer, readers=readers, clock=FakeClock(), telemetry=telemetry)
    tier.wait = lambda timeout_s: tier.poll()  # type: ignore[method-assign]  # nothing happens by itself
    engine = fake_batch_engine(model=model, tier=tier, telemetry=telemetry, **parts)
    return DrivenWithStore(engine, store=store, tier=tier, writer=writer, readers=readers, telemetry=telemetry)


class Oracle:
    """Drafts what the fake model will say; every ``wrong``-th token of the sequence is guessed wrong."""

    def __init__(self, token_ids: Iterable[int], wrong: int = 0) -> None:
        self._tokens, self._wrong = list(token_ids), wrong

    def draft(self, most: int) -> Draft:
        context, tokens = list(self._tokens), list[int]()
        for _ in range(most):
            context.append(fake_next_token(context))
            tokens.append(255 if self._wrong and len(context) % self._wrong == 0 else context[-1])
        return Draft(tokens, [1.0] * len(tokens))

    def observe(self, drawn: Sequence[int]) -> None:
        self._tokens += drawn


def says(text: str) -> FakeModel:
    """A model that answers any one-byte prompt with ``text`` and then ends."""
    tokens = [*FakeTokenizer().encode(text), END]
    return FakeModel(choose=lambda token_ids: tokens[len(token_ids) - 1])


def cold(prompt: Sequence[int], max_tokens: int) -> tuple[int, ...]:
    """What the fake model says to this prompt, without any engine."""
    token_ids = list(prompt)
    for _ in range(max_tokens):
        token_ids.append(fake_next_token(token_ids))
    return tuple(token_ids[len(prompt) :])


def shifted(draws: tuple[Drawn, ...]) -> tuple[Drawn, ...]:
    """What a model draws that is wrong: other tokens."""
    return tuple(Drawn(drawn.token_id % 256 + 1) for drawn in draws)
