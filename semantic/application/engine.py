"""The engine's public face: safe to use from any thread."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from semantic.application.agent import Agent
from semantic.application.agents import Agents
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.chat_options import Tools, chat_options
from semantic.application.engine_stats import EngineStats
from semantic.application.integrity import check_integrity
from semantic.application.owner_thread import OwnerThread, Submission
from semantic.application.ports.agent_archive import AgentArchive
from semantic.application.ports.live_board import EngineSnapshot
from semantic.application.ports.model import ModelProfile
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import ChatMessage, Tokenizer
from semantic.application.requests import Request
from semantic.application.stats_reporter import StatsReporter
from semantic.application.waiting import wait_for
from semantic.domain.errors import (
    EmptyPromptError,
    InvalidRequestError,
    TokenizerRequiredError,
)
from semantic.domain.identifiers import RequestId
from semantic.domain.value_objects import Completion, Delta, SamplingParams, Terms, check_namespace
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE

Prompt = str | Sequence[int] | Sequence[ChatMessage]
"""Text, token ids, or chat messages."""

_PROMPT_KINDS = "a prompt is a str, a list of token ids (int) or a list of chat messages (dict)"


_numbers = itertools.count(1)


class Engine:
    """Generates for any number of callers at once. Use it as a context manager, or :meth:`close` it.

    Keyword arguments of the generating methods are the fields of
    :class:`~semantic.domain.value_objects.SamplingParams`: ``max_tokens``, ``temp``, ``top_p``, ``seed``, ``stop``,
    ``repetition_penalty``, ``logprobs`` and more; those of :class:`~semantic.domain.value_objects.Terms`:
    ``priority`` (``"interactive"`` or ``"background"``) and ``deadline_s``, after which
    :class:`~semantic.domain.errors.DeadlineExceededError` ends the request; and for prompts of chat messages ``tools``
    (JSON schemas, or functions) and ``chat_template_kwargs``, which go to the tokenizer's chat template. What one
    ``namespace`` has computed is never used in another.
    """

    def __init__(
        self,
        build: Callable[[], BlockPoolBatchEngine],
        telemetry: Telemetry,
        archive: AgentArchive,
        on_close: Callable[[], None] = lambda: None,
        reporter: StatsReporter | None = None,
    ) -> None:
        if reporter is None:
            self._owner = OwnerThread(build, telemetry)
        else:
            self._owner = OwnerThread(build, telemetry, stirred=reporter.stir, over=reporter.close)
            reporter.start(_snapshots_of(self._owner))
        self._agents = Agents(self._owner, archive, telemetry)
        self._on_close = on_close

    @property
    def profile(self) -> ModelProfile:
        """The facts of the model that this engine serves."""
        return self._owner.engine.model.profile

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, if the engine was opened with one."""
        return self._owner.engine.tokenizer

    def generate(self, prompt: Prompt, **sampling: Any) -> Completion:
        """Run one prompt to its end. Ctrl-C cancels it."""
        return self.submit(prompt, **sampling).result()

    def batch_generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int | Sequence[int] = 256,
        namespace: str = DEFAULT_NAMESPACE,
        **sampling: Any,
    ) -> list[Completion]:
        """Run many prompts together; completions come in the order of ``prompts``. If one fails, all are cancelled."""
        prepared = self.prepare_batch(prompts, max_tokens=max_tokens, namespace=namespace, **sampling)
        requests: list[Request] = []
        try:
            requests += map(self.start, prepared)
            return [request.result() for request in requests]
        finally:
            for request in requests:
                request.cancel()

    def stream(self, prompt: Prompt, **sampling: Any) -> Iterator[Delta]:
        """Deltas as they are generated; the last one carries the completion. Leaving the loop cancels the rest."""
        return iter(self.submit(prompt, **sampling))

    def submit(self, prompt: Prompt, *, namespace: str = DEFAULT_NAMESPACE, **sampling: Any) -> Request:
        """Put a request into the batch and return at once. What can never be served is refused here."""
        return self.start(self.prepare(prompt, namespace=namespace, **sampling))

    def cancel(self, request_id: RequestId) -> None:
        """End the request of this id (:attr:`Request.id`) as soon as the present step is over.

        Raises :class:`~semantic.domain.errors.RequestFinishedError` if it is over, and
        :class:`~semantic.domain.errors.UnknownRequestError` if this engine has none of this id.
        """
        self._owner.cancel(request_id)

    # -- for faces that wait in another way ------------------------------------------------------

    def prepare(
        self,
        prompt: Prompt,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        tools: Tools | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Submission:
        """Encode and check a prompt. Nothing of the engine changes, so what this gives may be dropped."""
        self._owner.refuse_if_over()
        terms = Terms.taken_from(sampling)
        params = SamplingParams.from_keywords(sampling)
        token_ids = self.encode(prompt, tools=tools, chat_template_kwargs=chat_template_kwargs)
        return Submission(
            prompt_token_ids=token_ids,
            sampling=self._owner.engine.check(token_ids, params),
            namespace=check_namespace(namespace),
            terms=terms,
        )

    def prepare_batch(
        self, prompts: Sequence[Prompt], *, max_tokens: int | Sequence[int] = 256, **keywords: Any
    ) -> list[Submission]:
        """:meth:`prepare` for many prompts, of which none is refused unless all of the call is."""
        limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
        if len(limits) != len(prompts):
            raise InvalidRequestError(f"max_tokens has {len(limits)} values for {len(prompts)} prompts")
        pairs = zip(prompts, limits, strict=True)
        return [self.prepare(prompt, max_tokens=limit, **keywords) for prompt, limit in pairs]

    def start(self, submission: Submission) -> Request:
        """Put what was prepared into the batch, at once."""
        request = self._owner.submit(submission)
        request.engine = self
        return request

    def start_flush(self) -> "Future[None]":
        """What :meth:`flush` waits for."""
        return self._owner.flush()

    def start_drain(self) -> "Future[None]":
        """What :meth:`drain` waits for; the engine takes no new request from now on."""
        return self._owner.drain()

    # -- agents ----------------------------------------------------------------------------------

    def agent(
        self,
        name: str,
        *,
        system: str | None = None,
        tools: Tools | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> Agent:
        """The agent of this name: the one that is there, also from an earlier process on the same store, or a new one.

        ``system`` is the message that its chat begins with, ``tools`` and ``chat_template_kwargs`` are what its chat
        template gets on every turn. Raises :class:`~semantic.domain.errors.AgentExistsError` if it is there with other
        ones, and :class:`~semantic.domain.errors.AgentOfOtherModelError` if the store's agent was made by another
        model.
        """
        agent = self._agents.get_or_make(
            name, check_namespace(namespace), system=system, tools=tools, chat_template_kwargs=chat_template_kwargs
        )
        return self._held(agent)

    def agents(self, *, namespace: str | None = None) -> list[Agent]:
        """All agents of this model, or those of one namespace, by name."""
        return [self._held(agent) for agent in self._agents.all(namespace)]

    def import_agent(
        self, file: "str | PathLike[str]", *, name: str | None = None, namespace: str = DEFAULT_NAMESPACE
    ) -> Agent:
        """An agent from a file that :meth:`Agent.export` wrote, under its own or another name.

        Raises :class:`~semantic.domain.errors.AgentFileError` for a damaged file,
        :class:`~semantic.domain.errors.AgentOfOtherModelError` if another model made it, and
        :class:`~semantic.domain.errors.AgentExistsError` if the name is taken.
        """
        return self._held(self._agents.import_agent(Path(file), name, check_namespace(namespace)))

    def _held(self, agent: Agent) -> Agent:
        agent.engine = self
        return agent

    # -- facts and ends --------------------------------------------------------------------------

    def encode(
        self,
        prompt: Prompt,
        *,
        tools: Tools | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The token ids of a prompt: a str as ``mlx_lm.generate`` encodes it, messages through the chat template.

        Arrays of ids are taken as their ``tolist()``. ``tools`` and ``chat_template_kwargs`` are for messages alone.
        """
        options = chat_options(self.tokenizer, tools, chat_template_kwargs)
        prompt = prompt.tolist() if hasattr(prompt, "tolist") else prompt
        if isinstance(prompt, (bytes, bytearray)) or not isinstance(prompt, Sequence):
            raise InvalidRequestError(f"{_PROMPT_KINDS}; got {type(prompt).__name__}")
        if len(prompt) == 0:
            raise EmptyPromptError("the prompt is empty; pass some text, token ids or messages")
        is_text = isinstance(prompt, str)
        is_token_ids = not is_text and all(isinstance(item, int) for item in prompt)
        if options and (is_text or is_token_ids):
            raise InvalidRequestError("tools and chat_template_kwargs go with a prompt of chat messages")
        if is_token_ids:
            return [int(token_id) for token_id in prompt]  # type: ignore[arg-type]
        if self.tokenizer is None:
            raise TokenizerRequiredError(
                "this engine has no tokenizer, so a prompt is a list of token ids; to pass text or messages, "
                "open it with a (model, tokenizer) pair"
            )
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if not all(isinstance(item, dict) for item in prompt):
            raise InvalidRequestError(
                f"{_PROMPT_KINDS}; got a list of {', '.join(sorted({type(item).__name__ for item in prompt}))}"
            )
        return self.tokenizer.encode_chat(prompt, options)  # type: ignore[arg-type]

    def stats(self) -> EngineStats:
        """Counts as of the last step, latencies over a window. Works after :meth:`close` too."""
        return self._owner.stats()

    def flush(self) -> None:
        """Return when all that was finished before is durable; without a store that is at once, after this step.

        Raises the :class:`~semantic.domain.errors.StoreError` of what could not be written since the last call.
        """
        self.start_flush().result()

    def check_integrity(self) -> None:
        """Raise unless the engine's books balance: pool, index, memory and, when nothing is being written, the store.

        For debugging, and for whoever runs it for days: cheap enough to be called after every request. Raises
        :class:`~semantic.domain.errors.EngineIntegrityError`, :class:`~semantic.domain.errors.PoolIntegrityError` or
        :class:`~semantic.domain.errors.StoreIntegrityError`, each of which is a defect to report.
        """
        self._owner.call(check_integrity)

    def drain(self, timeout: float | None = None) -> None:
        """Take no new request from now on, and return when all there are have ended and are durable.

        From here on submitting raises :class:`~semantic.domain.errors.EngineDrainingError`, also for the turn of an
        agent that was still waiting for the turn before. Cancelling, statistics, :meth:`flush` and :meth:`close` go on
        working. Raises what :meth:`flush` raises, and ``TimeoutError`` after ``timeout`` seconds: the engine then goes
        on draining, and another call waits again.
        """
        wait_for(self.start_drain(), timeout, "the engine has not drained")

    def close(self) -> None:
        """Cancel what still runs, make the rest durable, give the model back. Closing twice is a no-op."""
        self._owner.close()
        self._on_close()
        self._on_close = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._owner.close()


def _snapshots_of(owner: OwnerThread) -> Callable[[], EngineSnapshot]:
    """What a reporter takes. It refers to the thread alone: an engine that nobody else holds is to be closed."""
    engine, clock = f"{os.getpid()}-{next(_numbers)}", owner.engine.clock
    opened_at = clock.now().isoformat(timespec="seconds")

    def take() -> EngineSnapshot:
        return EngineSnapshot(
            engine=engine,
            pid=os.getpid(),
            model=owner.engine.model.profile.name,
            opened_at=opened_at,
            taken_at=clock.now().isoformat(timespec="milliseconds"),
            stats=owner.stats(),
        )

    return take
