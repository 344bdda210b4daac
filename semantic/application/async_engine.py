"""The engine's face for event loops: the same verbs, awaited."""

import asyncio
from collections.abc import Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Self

from semantic.application.agent import Agent
from semantic.application.async_agent import AsyncAgent
from semantic.application.async_requests import AsyncDeltas, AsyncRequest
from semantic.application.background import Background
from semantic.application.engine import Engine, Prompt
from semantic.application.engine_stats import EngineStats
from semantic.application.ports.model import ModelProfile
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.requests import Request
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE


class AsyncEngine:
    """Generates for any number of tasks, event loops and threads at once. Get one from ``semantic.aopen``.

    Keyword arguments, results and errors are those of :class:`~semantic.application.engine.Engine`, which is ``sync``
    and may be used from threads at the same time; ``AsyncEngine(engine)`` puts this face over one that is open. Prompts
    are encoded on other threads than the loop's. A task that is cancelled, by ``task.cancel()``, ``asyncio.timeout`` or
    a task group, cancels its request at once, whose blocks are free after the step that is under way. Works with
    asyncio.
    """

    def __init__(self, engine: Engine) -> None:
        self.sync = engine
        self._background = Background("semantic-async")
        self._verbs = Background("semantic-async-verbs")  # which wait for turns, that the former has to begin

    @property
    def profile(self) -> ModelProfile:
        """The facts of the model that this engine serves."""
        return self.sync.profile

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, if the engine was opened with one."""
        return self.sync.tokenizer

    async def generate(self, prompt: Prompt, **sampling: Any) -> Completion:
        """Run one prompt to its end."""
        return await AsyncRequest(await self._begin(prompt, sampling)).result()

    async def batch_generate(self, prompts: Sequence[Prompt], **sampling: Any) -> list[Completion]:
        """Run many prompts together; completions come in the order of ``prompts``. If one fails, all are cancelled."""
        prepared = await self._background.run(partial(self.sync.prepare_batch, prompts, **sampling))
        requests: list[AsyncRequest] = []
        try:
            requests += (AsyncRequest(self.sync.start(submission)) for submission in prepared)
            return [await request.result() for request in requests]
        finally:
            for request in requests:
                request.cancel()

    def stream(self, prompt: Prompt, **sampling: Any) -> AsyncDeltas:
        """Deltas as they are generated; the last one carries the completion. Leaving the loop cancels the rest."""
        return AsyncDeltas(lambda: self._begin(prompt, sampling))

    async def submit(self, prompt: Prompt, **sampling: Any) -> AsyncRequest:
        """Put a request into the batch and return. What can never be served is refused here."""
        return AsyncRequest(await self._begin(prompt, sampling))

    def cancel(self, request_id: RequestId) -> None:
        """End the request of this id as soon as the present step is over. Does not wait."""
        self.sync.cancel(request_id)

    async def encode(self, prompt: Prompt, **options: Any) -> list[int]:
        """The token ids of a prompt."""
        return await self._background.run(partial(self.sync.encode, prompt, **options))

    async def _begin(self, prompt: Prompt, sampling: dict[str, Any]) -> Request:
        """Encode on another thread; then nothing is awaited, so that no request is left behind by a cancelled task."""
        prepared = await self._background.run(partial(self.sync.prepare, prompt, **sampling))
        return self.sync.start(prepared)

    # -- agents ----------------------------------------------------------------------------------

    def agent(self, name: str, **options: Any) -> AsyncAgent:
        """The agent of this name, or a new one. Nothing is computed yet, so there is nothing to await."""
        return self._face(self.sync.agent(name, **options))

    def agents(self, *, namespace: str | None = None) -> list[AsyncAgent]:
        """All agents of this model, or those of one namespace, by name."""
        return [self._face(agent) for agent in self.sync.agents(namespace=namespace)]

    async def import_agent(
        self, file: "str | PathLike[str]", *, name: str | None = None, namespace: str = DEFAULT_NAMESPACE
    ) -> AsyncAgent:
        """An agent from a file that :meth:`AsyncAgent.export` wrote, under its own or another name."""
        call = partial(self.sync.import_agent, file, name=name, namespace=namespace)
        return self._face(await self._background.run(call))

    def _face(self, agent: Agent) -> AsyncAgent:
        return AsyncAgent(agent, self._background, self._verbs)

    # -- facts and ends --------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Counts as of the last step. Works after :meth:`close` too."""
        return self.sync.stats()

    async def flush(self) -> None:
        """Return when all that was finished before is durable."""
        await asyncio.wrap_future(self.sync.start_flush())

    async def drain(self, timeout: float | None = None) -> None:
        """Take no new request from now on, and return when all there are have ended and are durable.

        Raises ``TimeoutError`` after ``timeout`` seconds. The engine goes on draining then, and where a task is
        cancelled here.
        """
        draining = asyncio.wrap_future(self.sync.start_drain())
        try:
            async with asyncio.timeout(timeout):
                await draining
        except TimeoutError as exc:
            raise TimeoutError(f"the engine has not drained within {timeout} s; it goes on") from exc

    async def close(self) -> None:
        """Cancel what still runs, make the rest durable, give the model back. Closing twice is a no-op."""
        await self._background.run(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
