"""Stores for experiments, in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, cast

from attrs import define, field

from semantic.adapters.fakes.filesystem import PowerCut
from semantic.adapters.fakes.store import MemoryStore
from semantic.application.ports.block_store import BlockStore
from semantic.application.store_workload import operations

_WRITES = ("save", "delete", "touch", "save_agent", "forget_agent", "clear")


class MortalStore:
    """A store as a process sees it that will die: after ``writes_left`` writes, ``end`` is called instead of each."""

    def __init__(self, store: BlockStore, end: Callable[[], Any], writes_left: int | None = None) -> None:
        self._store, self._end = store, end
        self.writes_left = writes_left
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._counted(verb) if name in _WRITES else verb

    def _counted(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            self.writes += 1
            if self.writes_left is not None and self.writes > self.writes_left:
                return self._end()
            return verb(*args)

        return write


@define
class FakeStores:
    """Fulfils the port of stores with :class:`MemoryStore`: each write happens whole or not at all.

    ``make`` makes each store: give it a worse one to see an experiment say NO-GO.
    """

    make: Callable[[], MemoryStore] = MemoryStore
    stores: dict[str, MemoryStore] = field(factory=dict)
    _numbers: Iterator[int] = field(factory=count)

    @contextmanager
    def place(self) -> Iterator[str]:
        """A name."""
        place = f"memory:{next(self._numbers)}"
        yield place
        self.stores.pop(place, None)

    def open(self, place: str) -> MemoryStore:
        """The store of this name, as it was left."""
        store = self.stores.setdefault(place, self.make())
        store.reopen()
        return store

    @contextmanager
    def disk(self, cut_at: int | None = None) -> Iterator["FakeDisk"]:
        """Nothing is lost on it that was done before the cut."""
        yield FakeDisk(self.make(), cut_at)

    def writer(self, place: str, *, block_bytes: int) -> "FakeWriter":
        """Writes when it is killed."""
        return FakeWriter(self.open(place), block_bytes)


class FakeDisk:
    """A store in memory; writes are its operations."""

    def __init__(self, store: MemoryStore, cut_at: int | None = None) -> None:
        self._store, self._cut_at = store, cut_at
        self.operations = 0

    def run(self, work: Callable[[BlockStore], object]) -> bool:
        """The cut comes before a write."""
        self._store.reopen()
        left = None if self._cut_at is None else self._cut_at - 1 - self.operations
        store = MortalStore(self._store, _cut, left)
        try:
            work(cast(BlockStore, store))
        except PowerCut:
            return False
        finally:
            self.operations += store.writes
        return True

    def after_power_cut(self, seed: int) -> "FakeDisk":
        """The same store."""
        return FakeDisk(self._store)


class FakeWriter:
    """Does as many operations as it is given time for: one each millisecond."""

    def __init__(self, store: MemoryStore, block_bytes: int) -> None:
        self._store, self._block_bytes = store, block_bytes

    def kill(self, *, after: int, delay_s: float) -> int:
        """Do them now."""
        done = after + int(delay_s * 1000)
        for operation in islice(operations(self._block_bytes), done):
            operation.call(self._store)
        return done


def _cut() -> None:
    raise PowerCut
