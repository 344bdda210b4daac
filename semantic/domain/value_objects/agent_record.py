"""What an agent is, apart from its keys and values: enough to bring it back."""

from collections.abc import Iterable
from enum import StrEnum

from attrs import evolve, field, frozen

from semantic.domain.errors import InvalidRequestError, UnknownPointError
from semantic.domain.value_objects.chat_options import ChatOptions
from semantic.domain.value_objects.packed_tokens import common_tokens, pack_tokens


class AgentKind(StrEnum):
    """What an agent's context consists of: nothing yet, chat messages through the template, or plain text."""

    NEW = "new"
    CHAT = "chat"
    TEXT = "text"


@frozen(kw_only=True)
class HistoryEntry:
    """One message of a chat, or one piece of text. ``end`` is where it ends, in tokens of the agent's context.

    ``role``: the message's, or ``"text"`` and ``"completion"`` for an agent of plain text.
    """

    role: str
    content: str
    end: int


@frozen(kw_only=True)
class Checkpoint:
    """A point to come back to: the first ``num_tokens`` tokens and ``num_entries`` entries of history."""

    label: str
    num_tokens: int
    num_entries: int


@frozen(kw_only=True)
class AgentRecord:
    """An agent at its last committed turn. ``model`` and ``model_name``: whose tokens these are.

    ``model`` is the model's fingerprint, with those of its adapters behind plus signs: under another adapter the same
    tokens have other keys and values, and another author. ``chat``: what its template is given besides the messages.
    """

    namespace: str
    name: str
    model: str
    model_name: str
    kind: AgentKind = AgentKind.NEW
    token_ids: tuple[int, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    turns: int = 0
    updated_at: str = ""
    chat: ChatOptions = field(factory=ChatOptions)

    @property
    def system(self) -> str | None:
        """The system message that a chat begins with."""
        return self.history[0].content if self.history and self.history[0].role == "system" else None

    def point(self, at: str | int) -> Checkpoint:
        """The point that a checkpoint's label names, or after so many entries of history; below 0 from the end.

        Raises :class:`UnknownPointError`.
        """
        if isinstance(at, str):
            found = [checkpoint for checkpoint in self.checkpoints if checkpoint.label == at]
            if not found:
                labels = ", ".join(repr(checkpoint.label) for checkpoint in self.checkpoints) or "none"
                raise UnknownPointError(f"agent {self.name!r} has no checkpoint {at!r}; it has {labels}")
            return found[0]
        kept = at if at >= 0 else len(self.history) + at
        if not 0 <= kept <= len(self.history):
            raise UnknownPointError(f"agent {self.name!r} has {len(self.history)} entries of history, not {at}")
        return Checkpoint(label="", num_tokens=self.history[kept - 1].end if kept else 0, num_entries=kept)

    def after_turn(self, token_ids: Iterable[int], entries: Iterable[HistoryEntry]) -> "AgentRecord":
        """This record with another context and more history.

        Earlier points that lie behind the first token which is another now are moved there: up to it, what they name
        is what it was.
        """
        token_ids = tuple(token_ids)
        common = common_tokens(pack_tokens(self.token_ids), pack_tokens(token_ids))
        history, checkpoints = self.history, self.checkpoints
        if common < len(self.token_ids):
            history = tuple(evolve(entry, end=min(entry.end, common)) for entry in history)
            checkpoints = tuple(evolve(one, num_tokens=min(one.num_tokens, common)) for one in checkpoints)
        return evolve(
            self,
            token_ids=token_ids,
            history=(*history, *entries),
            checkpoints=checkpoints,
            turns=self.turns + 1,
        )

    def with_checkpoint(self, label: str) -> "AgentRecord":
        """This record with a checkpoint at its end; one of the same label moves there."""
        if not isinstance(label, str):
            raise InvalidRequestError(f"a checkpoint's label is a str, got {label!r}")
        others = tuple(checkpoint for checkpoint in self.checkpoints if checkpoint.label != label)
        here = Checkpoint(label=label, num_tokens=len(self.token_ids), num_entries=len(self.history))
        return evolve(self, checkpoints=(*others, here))

    def cut(self, at: str | int) -> "AgentRecord":
        """This record as it was at a point; later checkpoints are gone."""
        point = self.point(at)
        return evolve(
            self,
            token_ids=self.token_ids[: point.num_tokens],
            history=self.history[: point.num_entries],
            checkpoints=tuple(cp for cp in self.checkpoints if cp.num_entries <= point.num_entries),
        )
