"""From a chat's messages to token ids, and what of them is known already."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.domain.errors import InvalidRequestError
from semantic.domain.value_objects import AgentRecord, HistoryEntry, common_tokens, pack_tokens

Message = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""What a user says, one message with its role, or several."""

_PROBES = ("a", "b")


@frozen
class Said:
    """One message of a chat."""

    role: str
    content: str

    @property
    def message(self) -> dict[str, str]:
        """As chat templates take it."""
        return {"role": self.role, "content": self.content}


def said(message: Message, role: str = "user") -> list[Said]:
    """The messages that an argument stands for. Raises :class:`InvalidRequestError`."""
    if isinstance(message, str):
        return [Said(role, message)]
    several = [message] if isinstance(message, Mapping) else message
    if not isinstance(several, Sequence) or not several or not all(isinstance(one, Mapping) for one in several):
        raise InvalidRequestError(
            f"a message is a str, a dict with role and content, or a list of such; got {type(message).__name__}"
        )
    for one in several:
        if set(one) != {"role", "content"} or not all(isinstance(value, str) for value in one.values()):
            raise InvalidRequestError(f"an agent's message has a role and a content, both str; got {dict(one)!r}")
    return [Said(one["role"], one["content"]) for one in several]


class ChatContext:
    """Renders an agent's whole history through the model's chat template, as a chat without memory would."""

    def __init__(self, tokenizer: Tokenizer, telemetry: Telemetry) -> None:
        self._tokenizer, self._telemetry = tokenizer, telemetry

    def prompt(self, record: AgentRecord, new: Sequence[Said]) -> list[int]:
        """The token ids of the history and the new messages, ready for a reply.

        Where the template renders earlier turns otherwise than they were computed, telemetry says from which token
        on; what lies before is used again, the rest is computed as it is now.
        """
        messages = [*_messages(record.history), *(one.message for one in new)]
        token_ids = self._tokenizer.encode_chat(messages, record.chat)
        self._report_divergence(record, token_ids)
        return token_ids

    def stable(self, record: AgentRecord, new: Sequence[Said] = ()) -> list[int]:
        """The token ids with which every rendering begins that continues the history and the new messages."""
        messages = [*_messages(record.history), *(one.message for one in new)]
        renderings = [
            self._tokenizer.encode_chat([*messages, Said("user", probe).message], record.chat) for probe in _PROBES
        ]
        return renderings[0][: common_tokens(*map(pack_tokens, renderings))]

    def _report_divergence(self, record: AgentRecord, token_ids: Sequence[int]) -> None:
        known = record.token_ids
        common = common_tokens(pack_tokens(known), pack_tokens(token_ids))
        if common < len(known):
            self._telemetry.event(
                "agent.history.diverged",
                agent=record.name,
                position=common,
                expected=known[common],
                found=token_ids[common] if common < len(token_ids) else None,
                tokens_lost=len(known) - common,
            )


def _messages(history: Sequence[HistoryEntry]) -> list[dict[str, str]]:
    return [Said(entry.role, entry.content).message for entry in history]
