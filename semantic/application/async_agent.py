"""An agent as tasks of an event loop talk to it."""

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import Any

from semantic.application.agent import Agent
from semantic.application.async_requests import AsyncDeltas, AsyncRequest
from semantic.application.background import Background
from semantic.application.chat_context import Message
from semantic.application.requests import Request
from semantic.application.wakeup import Wakeup
from semantic.domain.value_objects import AgentRecord, Completion


class AsyncAgent:
    """Get one from :meth:`AsyncEngine.agent`. Its verbs are those of :class:`~semantic.application.agent.Agent`.

    Turns run one after the other in the order they were asked for, whichever tasks, loops or threads ask: a turn that
    is asked for while another goes on waits, in the task that is reading that one's stream too. A task that is
    cancelled in the middle of a turn, or while it waits for one, leaves the agent where it stood. Other verbs run to
    their end once they have begun. ``sync`` is the agent for threads.
    """

    def __init__(self, agent: Agent, background: Background, verbs: Background) -> None:
        self.sync, self._background, self._verbs = agent, background, verbs

    def __repr__(self) -> str:
        return repr(self.sync)

    # -- facts -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.sync.name

    @property
    def namespace(self) -> str:
        return self.sync.namespace

    @property
    def record(self) -> AgentRecord:
        """All that is known of it but its keys and values, as of the last turn."""
        return self.sync.record

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids of its context."""
        return self.sync.tokens

    @property
    def history(self) -> list[dict[str, str]]:
        """Messages with ``role`` and ``content``; of plain text, pieces with the roles ``text`` and ``completion``."""
        return self.sync.history

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Labels to rewind to."""
        return self.sync.checkpoints

    # -- turns -----------------------------------------------------------------------------------

    async def chat(self, message: Message, **sampling: Any) -> Completion:
        """Say something and wait for the reply."""
        return await self._result(partial(self.sync.begin_chat, message, sampling))

    def stream(self, message: Message, **sampling: Any) -> AsyncDeltas:
        """Say something and read the reply as it comes. Leaving the loop cancels the turn."""
        return AsyncDeltas(lambda: self._begin(partial(self.sync.begin_chat, message, sampling)))

    async def generate(self, prompt: str | Sequence[int], **sampling: Any) -> Completion:
        """Continue plain text: append ``prompt`` (text or token ids) to the context, then generate."""
        return await self._result(partial(self.sync.begin_text, prompt, sampling))

    async def append(self, message: Message, *, role: str | None = None) -> None:
        """Add to the context, and compute it, without a reply."""
        await self._result(partial(self.sync.begin_append, message, role))

    async def _result(self, begin: Callable[[int], Request]) -> Completion:
        return await AsyncRequest(await self._begin(begin)).result()

    async def _begin(self, begin: Callable[[int], Request]) -> Request:
        """Wait for the turn, then have the prompt rendered and submitted where that blocks no loop."""
        turn = await self._turn()
        return await self._background.make(partial(begin, turn), undo=Request.cancel)

    async def _turn(self) -> int:
        wakeup = Wakeup()
        ticket = self.sync.turn_lock.ask(wakeup)
        try:
            while ticket.number is None:
                await wakeup.wait()
        except BaseException:
            self.sync.turn_lock.withdraw(ticket)
            raise
        return ticket.number

    # -- branches and travel ---------------------------------------------------------------------

    async def checkpoint(self, label: str) -> None:
        """Give the present point a name to :meth:`rewind` to, or to fork from."""
        await self._verbs.run(partial(self.sync.checkpoint, label))

    async def rewind(self, to: str | int) -> None:
        """Go back to a checkpoint, or to the first ``to`` entries of :attr:`history` (from its end if negative)."""
        await self._verbs.run(partial(self.sync.rewind, to))

    async def fork(self, name: str, at: str | int | None = None) -> "AsyncAgent":
        """A new agent with this one's context, or with what it was at a point as :meth:`rewind` takes it."""
        return AsyncAgent(await self._verbs.run(partial(self.sync.fork, name, at)), self._background, self._verbs)

    async def forget(self) -> None:
        """Erase the agent, and of its context whatever no other agent refers to, from memory and from disk."""
        await self._verbs.run(self.sync.forget)

    async def export(self, file: "str | PathLike[str]") -> None:
        """Write one file that :meth:`AsyncEngine.import_agent` takes."""
        await self._verbs.run(partial(self.sync.export, file))

    async def pin(self) -> None:
        """Keep the context in memory, as it is and as it will be."""
        await self._verbs.run(self.sync.pin)

    async def unpin(self) -> None:
        """Let the context be evicted again."""
        await self._verbs.run(self.sync.unpin)
