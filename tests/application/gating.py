"""A model that waits until a test says go on."""

import threading
from collections.abc import Sequence

from attrs import define, field

from semantic.adapters.fakes import fake_next_token

SOON = 10.0
"""Seconds after which a test gives up on another thread."""


@define
class Gate:
    """A next-token rule that waits: ``reached`` is set by the first decode step, which goes on after ``open``."""

    reached: threading.Event = field(factory=threading.Event)
    opened: threading.Event = field(factory=threading.Event)

    def __call__(self, token_ids: Sequence[int]) -> int:
        self.reached.set()
        assert self.opened.wait(SOON), "nobody opened the gate"
        return fake_next_token(token_ids)

    def open(self) -> None:
        self.opened.set()

    def await_reached(self) -> None:
        assert self.reached.wait(SOON), "the engine never came to a decode step"
