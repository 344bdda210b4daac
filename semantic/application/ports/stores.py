"""Stores for experiments: fresh ones, ones on a disk whose power fails, and ones whose writer is killed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from semantic.application.ports.block_store import BlockStore


class Disk(Protocol):
    """A disk with one store on it, which forgets what was not made durable when its power goes."""

    @property
    def operations(self) -> int:
        """What was asked of the disk so far."""

    def run(self, work: Callable[[BlockStore], object]) -> bool:
        """Open the store, do the work, close the store. False if the power went on the way."""

    def after_power_cut(self, seed: int) -> "Disk":
        """A disk with what is left: of all that was not made durable any part, by ``seed``. It takes this one's place.

        May be asked again with another seed; what came of the earlier one is not to be used any more.
        """


class StoreWriter(Protocol):
    """A process that does the operations of :func:`~semantic.application.store_workload.operations`, without pause."""

    def kill(self, *, after: int, delay_s: float) -> int:
        """Let it do so many operations, wait so long, and kill it. Returns how many had returned by then."""


class Stores(Protocol):
    """Where experiments keep stores. What is made here is gone when its ``with`` block ends."""

    def place(self) -> AbstractContextManager[str]:
        """A place for a store, with none in it yet: what opening an engine, or :meth:`open`, takes as ``store``."""

    def open(self, place: str) -> BlockStore:
        """Open the store in a place, making it where there is none. The caller closes it."""

    def disk(self, cut_at: int | None = None) -> AbstractContextManager[Disk]:
        """An empty disk whose power goes at this operation, counted from 1."""

    def writer(self, place: str, *, block_bytes: int) -> StoreWriter:
        """Start a writer. It has opened the store when this returns."""
