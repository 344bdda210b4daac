"""An agent: a context that grows turn by turn, and whose keys and values are kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.chat_context import Message, Said, said
from semantic.application.requests import Request
from semantic.application.turn_lock import TurnLock
from semantic.domain.errors import AgentKindError, AgentNotFoundError
from semantic.domain.value_objects import (
    AgentKind,
    AgentRecord,
    Completion,
    Delta,
    FinishReason,
    HistoryEntry,
    common_tokens,
    pack_tokens,
)

if TYPE_CHECKING:
    from semantic.application.agents import Agents


@frozen
class Turn:
    """What a turn feeds, and from its completion the record that it leaves behind."""

    prompt: list[int]
    conclude: Callable[[Completion], AgentRecord]


class Agent:
    """Get one from :meth:`Engine.agent`. Safe to use from any thread; its turns run one after the other.

    An agent holds a chat (:meth:`chat`, :meth:`stream`) or plain text (:meth:`generate`); the first use decides. A turn
    that fails or is cancelled leaves the agent where it stood before. ``sampling`` are the keyword arguments of
    :meth:`Engine.generate`. Every verb raises :class:`~semantic.domain.errors.AgentNotFoundError` once it is forgotten.
    """

    def __init__(self, agents: "Agents", record: AgentRecord) -> None:
        self._agents, self._record = agents, record
        self.turn_lock = TurnLock(record.name)
        self._is_forgotten = False
        self.engine: object = None  # held, so that an engine isn't closed while someone has an agent of it

    def __repr__(self) -> str:
        return f"<Agent {self.name!r}: {len(self.tokens)} tokens, {len(self._record.history)} entries of history>"

    # -- facts -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def namespace(self) -> str:
        return self._record.namespace

    @property
    def record(self) -> AgentRecord:
        """All that is known of it but its keys and values, as of the last turn."""
        return self._record

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids of its context."""
        return self._record.token_ids

    @property
    def history(self) -> list[dict[str, str]]:
        """Messages with ``role`` and ``content``; of plain text, pieces with the roles ``text`` and ``completion``."""
        return [{"role": entry.role, "content": entry.content} for entry in self._record.history]

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Labels to rewind to."""
        return tuple(checkpoint.label for checkpoint in self._record.checkpoints)

    # -- turns -----------------------------------------------------------------------------------

    def chat(self, message: Message, **sampling: Any) -> Completion:
        """Say something and wait for the reply. Ctrl-C cancels the turn."""
        return self.begin_chat(message, sampling).result()

    def stream(self, message: Message, **sampling: Any) -> Iterator[Delta]:
        """Say something and read the reply as it comes. Leaving the loop cancels the turn."""
        return iter(self.begin_chat(message, sampling))

    def generate(self, prompt: str | Sequence[int], **sampling: Any) -> Completion:
        """Continue plain text: append ``prompt`` (text or token ids) to the context, then generate."""
        return self.begin_text(prompt, sampling).result()

    def append(self, message: Message, *, role: str | None = None) -> None:
        """Add to the context, and compute it, without a reply.

        A chat takes a message, of the user or of ``role``; plain text takes text. A new agent becomes one of plain
        text unless ``role`` or messages are given.
        """
        self.begin_append(message, role).result()

    # -- turns that nobody waits for here, for faces that wait in another way ----------------------

    def begin_chat(self, message: Message, sampling: Mapping[str, Any], turn: int | None = None) -> Request:
        """Begin what :meth:`chat` does. ``turn`` comes from :attr:`turn_lock` and is given back; None waits for one."""
        return self._begin(lambda: self._reply_to(said(message)), sampling, turn)

    def begin_text(self, prompt: str | Sequence[int], sampling: Mapping[str, Any], turn: int | None = None) -> Request:
        """Begin what :meth:`generate` does."""
        return self._begin(lambda: self._continue(prompt), sampling, turn)

    def begin_append(self, message: Message, role: str | None, turn: int | None = None) -> Request:
        """Begin what :meth:`append` does."""

        def make() -> Turn:
            if role is not None or not isinstance(message, str) or self._record.kind is AgentKind.CHAT:
                return self._listen_to(said(message, role or "user"))
            return self._continue(message, reply=False)

        return self._begin(make, {"max_tokens": 1}, turn)

    def _reply_to(self, new: list[Said]) -> Turn:
        record = self._of_kind(AgentKind.CHAT)
        prompt = self._agents.chat.prompt(record, new)

        def conclude(done: Completion) -> AgentRecord:
            end = len(prompt) + len(done.token_ids)
            reply = HistoryEntry(role="assistant", content=done.text, end=end)
            return record.after_turn([*prompt, *done.token_ids], [*_entries(record, new, prompt), reply])

        return Turn(prompt, conclude)

    def _listen_to(self, new: list[Said]) -> Turn:
        record = self._of_kind(AgentKind.CHAT)
        prompt = self._agents.chat.stable(record, new)
        return Turn(prompt, lambda done: record.after_turn(prompt, _entries(record, new, prompt)))

    def _continue(self, prompt: str | Sequence[int], *, reply: bool = True) -> Turn:
        record = self._of_kind(AgentKind.TEXT)
        text, token_ids = self._agents.encode(prompt, continues=bool(record.token_ids))
        context = [*record.token_ids, *token_ids]

        def conclude(done: Completion) -> AgentRecord:
            entries = [HistoryEntry(role="text", content=text, end=len(context))]
            if not reply:
                return record.after_turn(context, entries)
            grown = [*context, *self._agents.said(done)]
            entries.append(HistoryEntry(role="completion", content=done.text, end=len(grown)))
            return record.after_turn(grown, entries)

        return Turn(context, conclude)

    def _begin(self, make: Callable[[], Turn], sampling: Mapping[str, Any], number: int | None) -> Request:
        number = self.turn_lock.take() if number is None else number
        try:
            self._require_known()
            turn = make()
            request = self._agents.submit(self._record, turn.prompt, dict(sampling), self._ender(turn))
        except BaseException:
            self.turn_lock.give_back()
            raise
        request.engine = self.engine
        request.on_cancel = lambda: self.turn_lock.let_go(number)
        return request

    def _ender(self, turn: Turn) -> Callable[[BlockPoolBatchEngine, Completion | None], None]:
        """What the engine's thread does when the turn is over, whether anyone still waits for it or not."""

        def ended(engine: BlockPoolBatchEngine, done: Completion | None) -> None:
            concluded = None
            try:
                self._agents.book.end(self._record)
                if done is not None and done.finish_reason is not FinishReason.CANCELLED:
                    concluded = self._agents.stamped(turn.conclude(done))
            finally:
                try:
                    self._leave(turn, done, concluded)
                finally:
                    self.turn_lock.give_back()

        return ended

    def _leave(self, turn: Turn, done: Completion | None, concluded: AgentRecord | None) -> None:
        """Stand where the turn has led, or, if it came to nothing, remember what it left behind."""
        if concluded is None:
            self._agents.book.note(self._record, [*turn.prompt, *(done.token_ids if done else ())])
        else:
            self._record = concluded
            self._agents.book.commit(concluded)

    # -- branches and travel ---------------------------------------------------------------------

    def checkpoint(self, label: str) -> None:
        """Give the present point a name to :meth:`rewind` to, or to fork from. A label is moved if it is there."""
        with self.turn_lock:
            self._change(self._require_known().with_checkpoint(label))

    def rewind(self, to: str | int) -> None:
        """Go back to a checkpoint, or to the first ``to`` entries of :attr:`history` (from its end if negative).

        Raises :class:`~semantic.domain.errors.UnknownPointError`.
        """
        with self.turn_lock:
            self._change(self._require_known().cut(to))

    def fork(self, name: str, at: str | int | None = None) -> "Agent":
        """A new agent with this one's context, or with what it was at a point as :meth:`rewind` takes it.

        Nothing is copied: both share what is computed, until they part. Raises
        :class:`~semantic.domain.errors.AgentExistsError`.
        """
        with self.turn_lock:
            record = self._require_known()
            twin = self._agents.add(evolve(record if at is None else record.cut(at), name=name))
        twin.engine = self.engine
        return twin

    def forget(self) -> None:
        """Erase the agent, and of its context whatever no other agent refers to, from memory and from disk."""
        with self.turn_lock:
            erased = self._agents.forget(self._require_known())
            self._is_forgotten = True
        if erased is not None:
            erased.result()

    def export(self, file: "str | PathLike[str]") -> None:
        """Write one file that :meth:`Engine.import_agent` takes, here or on another machine with the same model."""
        with self.turn_lock:
            self._agents.export(self._require_known(), Path(file))

    def pin(self) -> None:
        """Keep the context in memory, as it is and as it will be; it yields only to what could not run otherwise."""
        with self.turn_lock:
            self._agents.pin(self._require_known())

    def unpin(self) -> None:
        """Let the context be evicted again."""
        with self.turn_lock:
            self._agents.unpin(self._require_known())

    # -- inside ----------------------------------------------------------------------------------

    def _change(self, record: AgentRecord) -> None:
        self._agents.commit(stamped := self._agents.stamped(record))
        self._record = stamped

    def _of_kind(self, kind: AgentKind) -> AgentRecord:
        record = self._record
        if record.kind not in (AgentKind.NEW, kind):
            verbs = {AgentKind.CHAT: "chat() and stream()", AgentKind.TEXT: "generate()"}
            raise AgentKindError(
                f"agent {self.name!r} holds a {record.kind}, which {verbs[record.kind]} continue; "
                f"make another agent for {verbs[kind]}"
            )
        return evolve(record, kind=kind)

    def _require_known(self) -> AgentRecord:
        if self._is_forgotten:
            raise AgentNotFoundError(f"agent {self.name!r} was forgotten; engine.agent(...) makes a new one")
        return self._record


def _entries(record: AgentRecord, new: Sequence[Said], prompt: Sequence[int]) -> list[HistoryEntry]:
    """Entries for new messages; only behind the last one is the context known to the token."""
    known = common_tokens(pack_tokens(record.token_ids), pack_tokens(prompt))
    ends = [known] * (len(new) - 1) + [len(prompt)]
    return [HistoryEntry(role=one.role, content=one.content, end=place) for one, place in zip(new, ends, strict=True)]
