"""The engine as experiments see it: its public face, so that they measure what users get."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from semantic.application.ports.model import ModelProfile
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE
from semantic.domain.value_objects.completion import Completion, Delta

Prompt: TypeAlias = str | Sequence[int] | Sequence[Mapping[str, Any]]
"""Text, token ids, or chat messages."""


class EngineStats(Protocol):
    """The counters that experiments hold to account."""

    @property
    def pool_free_blocks(self) -> int: ...
    @property
    def pool_total_blocks(self) -> int: ...
    @property
    def block_bytes(self) -> int: ...
    @property
    def pool_blocks_in_use(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def cache_bytes(self) -> int: ...
    @property
    def prefilled_tokens(self) -> int: ...
    @property
    def loaded_blocks(self) -> int: ...
    @property
    def accepted_tokens(self) -> int: ...
    @property
    def preemptions(self) -> int: ...


class SubmittedRequest(Protocol):
    """A request on its way. Iterating it yields its deltas; the last one carries the completion."""

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the completion, at most ``timeout`` seconds."""

    def cancel(self) -> None:
        """Ask to end it now. Its completion then says ``cancelled``; a finished request is left as it is."""

    def __iter__(self) -> Iterator[Delta]: ...


class AgentFace(Protocol):
    """An agent: a chat whose context is kept."""

    @property
    def name(self) -> str:
        """What it was called when it was made."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids of its context."""

    @property
    def history(self) -> list[dict[str, str]]:
        """Messages with ``role`` and ``content``."""

    def chat(self, message: str, *, max_tokens: int) -> Completion:
        """Say something and wait for the reply."""

    def stream(self, message: str, *, max_tokens: int) -> Iterator[Delta]:
        """Say something; the turn is under way when this returns, its last delta carries the completion."""

    def fork(self, name: str) -> "AgentFace":
        """A new agent with this one's context."""

    def forget(self) -> None:
        """Erase it, and return when no trace of it is left on disk either."""

    def export(self, file: str) -> None:
        """Write one file that :meth:`EngineFace.import_agent` takes."""

    def checkpoint(self, label: str) -> None:
        """Give the present point a name to rewind to."""

    def rewind(self, to: str) -> None:
        """Go back to a checkpoint."""


class EngineFace(Protocol):
    """What ``semantic.open`` returns. A context manager: leaving it closes the engine."""

    def generate(self, prompt: Prompt, *, max_tokens: int, namespace: str = DEFAULT_NAMESPACE) -> Completion:
        """Greedy by default; blocks until finished."""

    def batch_generate(
        self, prompts: Sequence[Prompt], *, max_tokens: int | Sequence[int], namespace: str = DEFAULT_NAMESPACE
    ) -> list[Completion]:
        """All at once, in the order of ``prompts``; ``max_tokens`` may be one for each."""

    def submit(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        namespace: str = DEFAULT_NAMESPACE,
        priority: str = "interactive",
    ) -> SubmittedRequest:
        """Put a request into the running batch and return at once."""

    def agent(self, name: str, *, system: str | None = None, namespace: str = DEFAULT_NAMESPACE) -> AgentFace:
        """The agent of this name, or a new one."""

    def agents(self) -> Sequence[AgentFace]:
        """All agents of this model, by name."""

    def import_agent(self, file: str, *, name: str | None = None) -> AgentFace:
        """An agent from a file, under its own or another name."""

    def check_integrity(self) -> None:
        """Raise ``EngineIntegrityError``, or that of the pool or of the store, unless the books balance."""

    def flush(self) -> None:
        """Return when all that was finished before is durable."""

    @property
    def profile(self) -> ModelProfile:
        """The facts of its model."""

    def stats(self) -> EngineStats:
        """The counters now."""

    def encode(self, prompt: Prompt) -> list[int]:
        """The token ids that a prompt stands for."""

    def close(self) -> None:
        """Close it. Closing twice is a no-op."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EngineFactory(Protocol):
    """Opens engines on one model, whatever the composition chose as model and adapters."""

    def open(
        self,
        *,
        exactness: str = "token",
        max_num_seqs: int = 8,
        max_token_gap_ms: float | None = 500.0,
        prefill_step_size: int | None = None,
        cache_layout: str = "auto",
        memory: str = "2GB",
        store: str | None = None,
        prefix_caching: bool = True,
        kv_bits: int | str | None = None,
        kv_group_size: int = 64,
        kv_at_rest: str = "exact",
        prompt_lookup_num_tokens: int = 15,
    ) -> EngineFace:
        """Open one. The caller closes it. ``store`` is a place that the lab's stores gave."""
