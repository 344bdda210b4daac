"""What an agent is, apart from its keys and values: enough to bring it back."""

from enum import StrEnum

from attrs import frozen


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
    """An agent at its last committed turn. ``model``: fingerprint and name of the model whose tokens these are."""

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
