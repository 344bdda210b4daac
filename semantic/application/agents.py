"""The agents of an engine, by namespace and name. Safe to use from any thread."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from semantic.application.agent import Agent
from semantic.application.agent_book import AgentBook, AgentKey, Lent, key_of
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.chat_context import ChatContext, Said
from semantic.application.owner_thread import OwnerThread, Submission
from semantic.application.ports.agent_archive import AgentArchive, ArchivedAgent
from semantic.application.ports.block_store import BlockToSave, Place, Tensor, TensorHeader, scratch
from semantic.application.ports.telemetry import Telemetry
from semantic.application.requests import Request
from semantic.domain.errors import (
    AgentExistsError,
    AgentOfOtherModelError,
    InvalidRequestError,
    StoreError,
    TokenizerRequiredError,
)
from semantic.domain.value_objects import (
    AgentKind,
    AgentRecord,
    Completion,
    HistoryEntry,
    Reuse,
    SamplingParams,
    check_namespace,
)

_MOST_NAME_BYTES = 256

Ended = Callable[[BlockPoolBatchEngine, Completion | None], None]


class Agents:
    """Makes agents, finds them again, and speaks for them to the engine's thread."""

    def __init__(self, owner: OwnerThread, archive: AgentArchive, telemetry: Telemetry) -> None:
        self._owner, self._archive, self._telemetry = owner, archive, telemetry
        self._engine = owner.engine
        self.book = AgentBook(owner.engine)
        self._lock = threading.Lock()  # guards the two tables
        self._agents: dict[AgentKey, Agent] = {}
        self._strangers: dict[AgentKey, AgentRecord] = {}  # of other models, in the same store
        for stored in self._engine.tier.store.agents() if self._engine.tier is not None else ():
            self._recall(stored.record)

    def _recall(self, record: AgentRecord) -> None:
        if record.model == self._engine.model.profile.fingerprint:
            self.book.know(record)
            self._agents[key_of(record)] = Agent(self, record)
        else:
            self._strangers[key_of(record)] = record

    # -- finding and making ----------------------------------------------------------------------

    def all(self, namespace: str | None = None) -> list[Agent]:
        """Every agent of this model, or those of one namespace, by name."""
        with self._lock:
            found = [agent for key, agent in self._agents.items() if namespace in (None, key[0])]
        return sorted(found, key=lambda agent: (agent.namespace, agent.name))

    def get_or_make(self, name: str, system: str | None, namespace: str) -> Agent:
        """The agent of this name, made if it isn't there."""
        self._owner.refuse_if_over()
        with self._lock:
            found = self._agents.get((namespace, name))
        if found is None:
            return self.add(self._new(name, system, namespace))
        if system is not None and system != found.record.system:
            raise AgentExistsError(
                f"agent {name!r} is there already with the system message {found.record.system!r}; "
                "leave system= out to continue with it, forget it first, or choose another name"
            )
        return found

    def _new(self, name: str, system: str | None, namespace: str) -> AgentRecord:
        profile = self._engine.model.profile
        return AgentRecord(
            namespace=namespace,
            name=name,
            model=profile.fingerprint,
            model_name=profile.name,
            kind=AgentKind.NEW if system is None else AgentKind.CHAT,
            history=() if system is None else (HistoryEntry(role="system", content=system, end=0),),
        )

    def add(self, record: AgentRecord) -> Agent:
        """A new agent that stands where ``record`` says."""
        key = _checked(record)
        record = self.stamped(record)
        with self._lock:
            stranger = self._strangers.get(key)
            if stranger is not None:
                raise AgentOfOtherModelError(record.name, _model(stranger), _model(record))
            if key in self._agents:
                raise AgentExistsError(f"agent {record.name!r} is there already; choose another name, or forget it")
            agent = self._agents[key] = Agent(self, record)
        try:
            self.commit(record)
        except BaseException:
            with self._lock:
                del self._agents[key]
            raise
        return agent

    # -- what agents ask for ---------------------------------------------------------------------

    @property
    def chat(self) -> ChatContext:
        """Renders chats. Raises :class:`TokenizerRequiredError`."""
        if self._engine.tokenizer is None:
            raise TokenizerRequiredError(
                "this engine has no tokenizer, so its agents hold plain text: use generate() with token ids"
            )
        return ChatContext(self._engine.tokenizer, self._telemetry)

    def encode(self, prompt: str | Sequence[int], *, continues: bool) -> tuple[str, list[int]]:
        """The text and the token ids of what is to be appended to plain text."""
        tokenizer = self._engine.tokenizer
        if isinstance(prompt, str):
            if tokenizer is None:
                raise TokenizerRequiredError("this engine has no tokenizer: pass a list of token ids")
            return prompt, tokenizer.encode(prompt, continues=continues)
        token_ids = list(prompt)
        if not all(isinstance(token_id, int) for token_id in token_ids):
            raise InvalidRequestError("plain text is a str or a list of token ids (int)")
        return tokenizer.decode(token_ids) if tokenizer is not None else "", token_ids

    def submit(self, record: AgentRecord, prompt: list[int], sampling: dict[str, Any], ended: Ended) -> Request:
        """Put an agent's turn into the batch."""
        submission = Submission(
            prompt_token_ids=prompt,
            sampling=self._engine.check(prompt, SamplingParams.from_keywords(sampling)),
            namespace=record.namespace,
            owner=key_of(record),
            boundaries=self._boundaries(record),
            on_end=ended,
        )
        return self._owner.submit(submission)

    def _boundaries(self, record: AgentRecord) -> tuple[int, ...]:
        """Where a kept state lets other agents with the same system message begin."""
        if record.system is None or self._engine.model.profile.reuse is not Reuse.AT_STATES:
            return ()
        alone = evolve(record, history=())
        return (len(self.chat.stable(alone, [Said("system", record.system)])),)

    def stamped(self, record: AgentRecord) -> AgentRecord:
        """The record with the time of its change."""
        return evolve(record, updated_at=self._engine.clock.now().isoformat(timespec="milliseconds"))

    def commit(self, record: AgentRecord) -> None:
        """Have a record that no turn has made committed, some time soon."""
        self._owner.post(lambda engine: self.book.commit(record))

    def pin(self, record: AgentRecord) -> None:
        """Hold an agent's blocks in memory."""
        self._owner.call(lambda engine: self.book.pin(record))

    def unpin(self, record: AgentRecord) -> None:
        """Let them go."""
        self._owner.call(lambda engine: self.book.unpin(record))

    def forget(self, record: AgentRecord) -> None:
        """Erase an agent; returns when no trace is left, on disk either."""
        self._owner.call(lambda engine: self.book.forget(record))
        with self._lock:
            del self._agents[key_of(record)]
        if self._engine.tier is not None:
            self._owner.call(lambda engine: engine.tier.flush() if engine.tier else None)

    # -- carrying to another machine -------------------------------------------------------------

    def export(self, record: AgentRecord, path: Path) -> None:
        """Write an agent and its blocks into one file."""
        lent, give_back = self._owner.call(lambda engine: self.book.lend(record))
        try:
            self._archive.write(path, ArchivedAgent(record, self._engine.context.digest), self._read(lent))
        finally:
            self._owner.call(lambda engine: give_back())

    def _read(self, lent: Sequence[Lent]) -> Iterator[BlockToSave]:
        """The blocks that can be had; what can't be read is computed again where the file is imported."""
        for one in lent:
            if one.tensors is not None:
                yield BlockToSave(one.block, one.tensors)
                continue
            tensors: list[Tensor] = []
            try:
                assert self._engine.tier is not None
                self._engine.tier.store.load(one.block.hash, _remembering(tensors))
            except StoreError as error:
                self._telemetry.warning("agent.export.incomplete", from_token=one.block.start, error=str(error))
                return
            yield BlockToSave(one.block, tensors)

    def import_agent(self, path: Path, name: str | None, namespace: str) -> Agent:
        """Bring back an agent from a file."""
        archived = self._archive.read(path)
        profile = self._engine.model.profile
        record = evolve(archived.record, name=name or archived.record.name, namespace=namespace)
        if record.model != profile.fingerprint:
            ours = f"{profile.name} ({profile.fingerprint})"
            raise AgentOfOtherModelError(record.name, _model(record), ours)
        if archived.context == self._engine.context.digest:
            self._take_in(path, namespace)
        else:
            self._telemetry.warning(
                "agent.import.recomputes", agent=record.name, reason="its blocks were computed in another way than here"
            )
        return self.add(record)

    def _take_in(self, path: Path, namespace: str) -> None:
        parents = {0: self._engine.context.root(namespace)}
        for block in self._archive.blocks(path):
            parent = parents[block.block.start]
            name = self._owner.call(lambda engine, block=block, parent=parent: self.book.take_in(parent, block))  # type: ignore[misc]
            end = block.block.start + len(block.block.tokens) // 4
            parents[end] = name


def _remembering(tensors: list[Tensor]) -> Place:
    """A place in fresh memory, which ``tensors`` then name."""

    def place(headers: Sequence[TensorHeader]) -> Sequence[Tensor]:
        tensors[:] = scratch(headers)
        return tensors

    return place


def _checked(record: AgentRecord) -> AgentKey:
    check_namespace(record.namespace)
    if not isinstance(record.name, str) or not 0 < len(record.name.encode(errors="replace")) <= _MOST_NAME_BYTES:
        raise InvalidRequestError(f"an agent's name is a str of 1 to {_MOST_NAME_BYTES} bytes, got {record.name!r}")
    return key_of(record)


def _model(record: AgentRecord) -> str:
    return f"{record.model_name} ({record.model})"
