"""The agents of an engine, by namespace and name. Safe to use from any thread."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import evolve

from semantic.application.agent import Agent
from semantic.application.agent_book import AgentBook, AgentKey, key_of
from semantic.application.agent_travel import Lent
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.chat_context import ChatContext, Said
from semantic.application.chat_options import Tools, chat_options
from semantic.application.owner_thread import OwnerThread, Submission
from semantic.application.ports.agent_archive import AgentArchive, ArchivedAgent
from semantic.application.ports.block_store import BlockToSave, Scratch
from semantic.application.ports.telemetry import Telemetry
from semantic.application.requests import Request
from semantic.domain.errors import (
    AgentExistsError,
    AgentOfOtherModelError,
    EngineClosedError,
    EngineDownError,
    InvalidRequestError,
    StoreError,
    TokenizerRequiredError,
)
from semantic.domain.value_objects import (
    AgentKind,
    AgentRecord,
    ChatOptions,
    Completion,
    FinishReason,
    HistoryEntry,
    Reuse,
    SamplingParams,
    Terms,
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
        if record.model == self._engine.model.profile.identity:
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

    def get_or_make(
        self,
        name: str,
        namespace: str,
        *,
        system: str | None = None,
        tools: Tools | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Agent:
        """The agent of this name, made if it isn't there; None stands for what one that is there has."""
        self._owner.refuse_if_over()
        new = self._new(name, namespace, system, chat_options(self._engine.tokenizer, tools, chat_template_kwargs))
        key = _checked(new)
        with self._lock:
            found = self._agents.get(key)
        if found is None:
            try:
                return self.add(new)
            except AgentExistsError:  # another thread was faster
                return self.get_or_make(
                    name, namespace, system=system, tools=tools, chat_template_kwargs=chat_template_kwargs
                )
        has = found.record
        if system is not None and system != has.system:
            raise _other(name, "system", f"the system message {has.system!r}")
        if tools is not None and new.chat.tools_json != has.chat.tools_json:
            raise _other(name, "tools", f"the tools {has.chat.tools_json}")
        if chat_template_kwargs is not None and new.chat.template_kwargs_json != has.chat.template_kwargs_json:
            raise _other(name, "chat_template_kwargs", f"the template arguments {has.chat.template_kwargs_json}")
        return found

    def _new(self, name: str, namespace: str, system: str | None, chat: ChatOptions) -> AgentRecord:
        profile = self._engine.model.profile
        return AgentRecord(
            namespace=namespace,
            name=name,
            model=profile.identity,
            model_name=profile.name,
            kind=AgentKind.CHAT if chat or system is not None else AgentKind.NEW,
            history=() if system is None else (HistoryEntry(role="system", content=system, end=0),),
            chat=chat,
        )

    def add(self, record: AgentRecord) -> Agent:
        """A new agent that stands where ``record`` says."""
        key = _checked(record)
        record = self.stamped(record)
        with self._lock:
            self._refuse_if_taken(record)
            agent = self._agents[key] = Agent(self, record)
        try:
            self.commit(record)
        except BaseException:
            with self._lock:
                del self._agents[key]
            raise
        return agent

    def _refuse_if_taken(self, record: AgentRecord) -> None:
        stranger = self._strangers.get(key_of(record))
        if stranger is not None:
            raise AgentOfOtherModelError(record.name, _model(stranger), _model(record))
        if key_of(record) in self._agents:
            raise AgentExistsError(f"agent {record.name!r} is there already; choose another name, or forget it")

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
        prompt = prompt.tolist() if hasattr(prompt, "tolist") else prompt
        token_ids = [] if isinstance(prompt, bytes | bytearray) else list(prompt)
        if len(token_ids) != len(prompt) or not all(isinstance(token_id, int) for token_id in token_ids):
            raise InvalidRequestError("plain text is a str or a list of token ids (int)")
        return tokenizer.decode(token_ids) if tokenizer is not None else "", token_ids

    def said(self, done: Completion) -> Sequence[int]:
        """A completion's token ids, of which those behind its text are left out: they make up a stop string."""
        tokenizer, token_ids = self._engine.tokenizer, list(done.token_ids)
        if done.finish_reason is not FinishReason.STOP or tokenizer is None:
            return token_ids
        whole = tokenizer.decode(token_ids)
        if whole == done.text or not whole.startswith(done.text):
            return token_ids
        while not done.text.startswith(text := tokenizer.decode(token_ids)):
            token_ids.pop()
        rest = done.text[len(text) :]  # of a token that the stop string begins in
        return [*token_ids, *(tokenizer.encode(rest, continues=True) if rest else [])]

    def submit(self, record: AgentRecord, prompt: list[int], sampling: dict[str, Any], ended: Ended) -> Request:
        """Put an agent's turn into the batch."""
        terms = Terms.taken_from(sampling)
        submission = Submission(
            prompt_token_ids=prompt,
            sampling=self._engine.check(prompt, SamplingParams.from_keywords(sampling)),
            namespace=record.namespace,
            owner=key_of(record),
            terms=terms,
            boundaries=self._boundaries(record),
            on_end=ended,
        )
        self._owner.post(lambda engine: self.book.begin(record, prompt))
        try:
            return self._owner.submit(submission)
        except BaseException:
            with suppress(EngineClosedError, EngineDownError):
                self._owner.post(lambda engine: self.book.end(record))
            raise

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

    def forget(self, record: AgentRecord) -> "Future[None] | None":
        """Erase an agent. The future, if there is a store, says when no trace is left on disk either."""
        erased = self._owner.call(lambda engine: self.book.forget(record))
        with self._lock:
            del self._agents[key_of(record)]
        return erased

    # -- carrying to another machine -------------------------------------------------------------

    def export(self, record: AgentRecord, path: Path) -> None:
        """Write an agent and its blocks into one file."""
        lending = self._owner.call(lambda engine: self.book.lend(record))
        try:
            self._archive.write(path, ArchivedAgent(record, self._engine.context.digest), self._read(lending.blocks))
        finally:
            with suppress(EngineClosedError, EngineDownError):
                self._owner.call(lambda engine: lending.give_back())

    def _read(self, lent: Sequence[Lent]) -> Iterator[BlockToSave]:
        """The blocks that can be had; what can't be read is computed again where the file is imported."""
        for one in lent:
            if one.tensors is not None:
                yield BlockToSave(one.block, one.tensors)
                continue
            scratch = Scratch()
            try:
                assert self._engine.tier is not None
                self._engine.tier.store.load(one.block.hash, scratch)
            except StoreError as error:
                self._telemetry.warning("agent.export.incomplete", from_token=one.block.start, error=str(error))
                return
            yield BlockToSave(one.block, scratch.tensors)

    def import_agent(self, path: Path, name: str | None, namespace: str) -> Agent:
        """Bring back an agent from a file."""
        self._owner.refuse_if_over()
        archived = self._archive.read(path)
        record = evolve(archived.record, name=archived.record.name if name is None else name, namespace=namespace)
        self._refuse_if_of_other_model(record)
        _checked(record)
        with self._lock:
            self._refuse_if_taken(record)
        if archived.context == self._engine.context.digest:
            return self._bring_back(record, path)
        self._telemetry.warning(
            "agent.import.recomputes", agent=record.name, reason="its blocks were computed in another way than here"
        )
        return self.add(record)

    def _refuse_if_of_other_model(self, record: AgentRecord) -> None:
        profile = self._engine.model.profile
        if record.model != profile.identity:
            ours = f"{profile.name} ({profile.identity})"
            raise AgentOfOtherModelError(record.name, _model(record), ours)

    def _bring_back(self, record: AgentRecord, path: Path) -> Agent:
        """Take in an agent's blocks, and then the agent: both, or nothing."""
        taking = self._owner.call(lambda engine: self.book.take_in(record))
        end = taking.undo
        try:
            for block in self._archive.blocks(path):
                written = self._owner.call(lambda engine, block=block: taking.take(block))  # type: ignore[misc]
                if written is not None:
                    self._await(written)
            agent = self.add(record)
            end = taking.finish
        finally:
            with suppress(EngineClosedError, EngineDownError):
                self._owner.call(lambda engine: end())
        return agent

    def _await(self, written: "Future[None]") -> None:
        """Wait for the store; whatever it could not write is computed again."""
        while not wait([written], timeout=0.2).done:
            self._owner.refuse_if_over()


def _other(name: str, keyword: str, what: str) -> AgentExistsError:
    return AgentExistsError(
        f"agent {name!r} is there already with {what}; "
        f"leave {keyword}= out to continue with it, forget it first, or choose another name"
    )


def _checked(record: AgentRecord) -> AgentKey:
    """The key of an agent whose name and system message are such."""
    check_namespace(record.namespace)
    try:
        is_name = isinstance(record.name, str) and 0 < len(record.name.encode()) <= _MOST_NAME_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        is_name = False
    if not is_name:
        raise InvalidRequestError(
            f"an agent's name is a str of 1 to {_MOST_NAME_BYTES} bytes in UTF-8, got {record.name!r}"
        )
    if not all(isinstance(entry.content, str) for entry in record.history):
        raise InvalidRequestError(f"a system message is a str, got {record.system!r}")
    return key_of(record)


def _model(record: AgentRecord) -> str:
    return f"{record.model_name} ({record.model})"
