"""The store behind threads: write-behind and reading ahead, so that a decode step never waits for the disk."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future

from attrs import define, frozen

from semantic.application.ports.block_store import BlockStore, BlockToSave, Place, StoreStats
from semantic.application.ports.clock import Clock
from semantic.application.ports.telemetry import Telemetry
from semantic.domain.errors import StoreError, StoreFullError
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentRecord

MOST_BLOCKS_AT_ONCE = 8
"""Blocks that are made durable together: one transaction for all, and none waits long for the others."""

Done = Callable[["Exception | None"], None]


@frozen
class StoreTierStats:
    """What is on disk, and how far writing is behind: jobs and bytes not durable yet, and the oldest one's age."""

    store: StoreStats
    pending_jobs: int
    pending_bytes: int
    behind_s: float
    failed_writes: int


@define(eq=False)
class Write:
    """One thing to do to the store. ``block`` is set where it is a save, which may be done together with others."""

    since: float
    done: Done
    block: BlockToSave | None = None
    action: Callable[[BlockStore], object] = lambda store: None
    nbytes: int = 0
    error: Exception | None = None


def _nothing(error: Exception | None) -> None:
    return


class StoreTier:
    """Writes happen one after the other in the order they were asked for, reads beside them.

    What has ended is told by :meth:`poll`, on the thread that calls it, and so is what the store evicted
    (``on_evicted``); ``wake`` is called, on any thread, when there is something to tell. ``writer`` must run one job
    at a time, in order. A write that fails is reported, once until a block is saved again, and the engine goes on.
    """

    def __init__(
        self, store: BlockStore, *, writer: Executor, readers: Executor, clock: Clock, telemetry: Telemetry
    ) -> None:
        self.store = store
        self._writer, self._readers, self._clock, self._telemetry = writer, readers, clock, telemetry
        self._writes: deque[Write] = deque()
        self._lock = threading.Lock()  # guards _writes, _pending and _touched
        self._pending: list[Write] = []
        self._evicted: list[BlockHash] = []
        self._touched: dict[BlockHash, None] = {}
        self._ended: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._store_stats = store.stats()
        self._failure: Exception | None = None
        self._complained = self._is_closed = False
        self.failed_writes = 0
        self.wake: Callable[[], None] = lambda: None
        self.on_evicted: Callable[[Sequence[BlockHash]], None] = lambda hashes: None

    # -- asking ----------------------------------------------------------------------------------

    def save(self, block: BlockToSave, done: Done) -> Write:
        """Make a block durable, some time soon. Its memory must stay as it is until ``done``."""
        nbytes = sum(tensor.nbytes for tensor in block.tensors)
        write = Write(self._clock.monotonic(), done, block=block, nbytes=nbytes)
        self._enqueue(write)
        return write

    def load(self, block_hash: BlockHash, place: Place, done: Done) -> None:
        """Read a block into memory that nobody else uses until ``done``."""

        def read() -> None:
            error: Exception | None = None
            try:
                self.store.load(block_hash, place)
            except Exception as caught:  # noqa: BLE001 - whatever a reader meets, its block is a miss
                error = caught
            self._ended.put(lambda: done(error))
            self.wake()

        self._readers.submit(read)

    def delete(self, hashes: Iterable[BlockHash], *, unless_failed: Write | None = None) -> None:
        """Erase blocks, after what was asked before; not if ``unless_failed``, which was asked before, has failed."""
        hashes = tuple(hashes)

        def erase(store: BlockStore) -> None:
            if unless_failed is None or unless_failed.error is None:
                store.delete(hashes)

        if hashes:
            self._do(erase)

    def touch(self, hashes: Iterable[BlockHash]) -> None:
        """Note that blocks were used; it reaches the store with the next write."""
        with self._lock:
            self._touched.update(dict.fromkeys(hashes))

    def save_agent(self, record: AgentRecord, blocks: Sequence[BlockHash]) -> None:
        """Commit an agent's turn, after the blocks that were asked to be saved before."""
        self._do(lambda store: store.save_agent(record, blocks))

    def forget_agent(self, namespace: str, name: str, erase: Sequence[BlockHash]) -> "Future[None]":
        """Erase an agent and blocks, after what was asked before. The future says when no trace is left, or why not."""
        erased: Future[None] = Future()

        def forget(store: BlockStore) -> None:
            try:
                store.forget_agent(namespace, name, erase)
            except Exception as error:
                erased.set_exception(error)
                raise
            erased.set_result(None)

        self._do(forget)
        return erased

    def flush(self) -> "Future[None]":
        """A future that ends when all that was asked before is durable, with the error of what was not."""
        flushed: Future[None] = Future()

        def end(store: BlockStore) -> None:
            failure, self._failure = self._failure, None
            if failure is None:
                flushed.set_result(None)
            else:
                flushed.set_exception(failure)

        self._do(end)
        return flushed

    def close(self) -> None:
        """Carry out what was asked, then close the store and the threads. Closing twice is a no-op."""
        if self._is_closed:
            return
        self._is_closed = True
        self._do(lambda store: None)
        self._readers.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        self.store.close()

    # -- hearing what ended ----------------------------------------------------------------------

    def poll(self) -> None:
        """Tell, on this thread, what has ended since the last call."""
        while not self._ended.empty():
            self._ended.get()()

    def wait(self, timeout_s: float) -> None:
        """Wait until something has ended, at most so long, and tell it."""
        try:
            ended = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return
        ended()
        self.poll()

    def stats(self) -> StoreTierStats:
        """Counts now; those of the store as of its last write."""
        with self._lock:
            pending = [*self._pending, *self._writes]
        behind = self._clock.monotonic() - pending[0].since if pending else 0.0
        nbytes = sum(write.nbytes for write in pending)
        return StoreTierStats(self._store_stats, len(pending), nbytes, behind, self.failed_writes)

    # -- on the writer's thread ------------------------------------------------------------------

    def _do(self, action: Callable[[BlockStore], object]) -> None:
        self._enqueue(Write(self._clock.monotonic(), _nothing, action=action))

    def _enqueue(self, write: Write) -> None:
        with self._lock:
            self._writes.append(write)
        self._writer.submit(self._write_next)

    def _write_next(self) -> None:
        touched = self._take()
        if not self._pending:
            return
        try:
            self._carry_out(touched)
        except Exception as error:  # noqa: BLE001 - the writer outlives whatever the disk or the store does
            self._fail(self._pending, error)
        finally:  # whoever waits hears of the end, whatever else happens
            ended = self._pending
            with self._lock:
                self._pending = []
            evicted, self._evicted = self._evicted, []
            saved = {write.block.block.hash for write in ended if write.block is not None}
            self._tell_evicted([name for name in evicted if name not in saved])
            for write in ended:
                self._ended.put(lambda write=write: write.done(write.error))  # type: ignore[misc]
            self._tell_evicted([name for name in evicted if name in saved])  # nobody knows of them before
            self.wake()
        self._report(ended)

    def _tell_evicted(self, names: Sequence[BlockHash]) -> None:
        if names:
            self._ended.put(lambda: self.on_evicted(names))

    def _take(self) -> tuple[BlockHash, ...]:
        """Move the next write, or the next saves, from what waits to what is pending."""
        with self._lock:
            while self._writes and len(self._pending) < MOST_BLOCKS_AT_ONCE:
                if self._pending and (self._writes[0].block is None or self._pending[-1].block is None):
                    break
                self._pending.append(self._writes.popleft())
            if not self._pending:
                return ()
            touched, self._touched = tuple(self._touched), {}
        return touched

    def _carry_out(self, touched: tuple[BlockHash, ...]) -> None:
        blocks = [write.block for write in self._pending if write.block is not None]
        try:
            if touched:
                self.store.touch(touched)  # first, so that what was used just now isn't evicted
        finally:
            if blocks:
                self._save(blocks)
            else:
                self._pending[0].action(self.store)
        self._store_stats = self.store.stats()

    def _save(self, blocks: Sequence[BlockToSave]) -> None:
        """Save them together, or one by one where there is no room for all."""
        try:
            evicted = self.store.save(blocks)
        except StoreFullError:
            if len(blocks) == 1:
                raise
            for write in self._pending:
                try:
                    self._save([block for block in blocks if block is write.block])
                except StoreFullError as error:
                    self._fail([write], error)
        else:
            self._evicted += evicted

    def _fail(self, writes: Sequence[Write], error: Exception) -> None:
        self.failed_writes += len(writes)
        self._failure = error
        for write in writes:
            write.error = error

    def _report(self, writes: Sequence[Write]) -> None:
        """Say once that something can't be kept, until a block can be again."""
        error = next((write.error for write in writes if write.error is not None), None)
        if error is None:
            self._complained &= writes[0].block is None  # that a block can be erased doesn't mean that one fits
        elif not self._complained:
            self._complained = True
            tell = self._telemetry.warning if isinstance(error, StoreError) else self._telemetry.error
            tell("store.not.persisting", error=f"{type(error).__name__}: {error}")
