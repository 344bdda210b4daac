"""The durable store: files first, made durable, then published in one transaction (ADR 0009)."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from semantic.adapters.storage.block_folder import BlockFolder, Draft
from semantic.adapters.storage.eviction import choose_victims
from semantic.adapters.storage.filesystem import FileSystem, OsFileSystem
from semantic.adapters.storage.index import Index
from semantic.adapters.storage.lock import StoreLock
from semantic.adapters.storage.published import Published
from semantic.adapters.storage.refusals import refusals
from semantic.adapters.storage.schema import erase_aside, open_index, open_reader
from semantic.adapters.telemetry import NullTelemetry
from semantic.application.ports.block_store import (
    BlockReport,
    BlockToSave,
    ContextStats,
    Place,
    Scratch,
    StoredAgent,
    StoredBlock,
    StoreStats,
)
from semantic.application.ports.telemetry import Telemetry
from semantic.domain.errors import (
    BlockDamagedError,
    BlockMissingError,
    StoreError,
    StoreForkedError,
    StoreFullError,
    StoreIntegrityError,
)
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentRecord

_INDEX = "index.sqlite3"


def holds_a_store(path: Path) -> bool:
    """Whether a store was opened in this folder before."""
    return (path / _INDEX).is_file()


class DiskStore:
    """A folder of blocks and agents. Fulfils ``BlockStore``; one process has it open at a time.

    Reads run beside one another and beside a write; writes wait for one another. ``filesystem`` holds the blocks'
    files; the lock and the index are on the disk always.
    """

    def __init__(
        self,
        path: Path,
        budget_bytes: int | None = None,
        telemetry: Telemetry | None = None,
        filesystem: FileSystem | None = None,
    ) -> None:
        """Open the store, making it where there is none, and sweep up what a crash left.

        Raises ``StoreLockedError``, ``StoreTooNewError``, or another ``StoreError`` where the disk refuses.
        """
        self.path = path.absolute()
        self.budget_bytes = budget_bytes
        self._telemetry = telemetry or NullTelemetry()
        self._process = os.getpid()
        self._writing = Lock()
        self._closed = False
        with refusals(self.path):
            self._open(filesystem or OsFileSystem())

    # -- blocks ----------------------------------------------------------------------------------

    def blocks(self, context: str) -> list[StoredBlock]:
        """All published blocks of a context, by where they start. A parent may be missing: damaged, or evicted."""
        with self._using():
            return self._index.blocks(context)

    def save(self, blocks: Sequence[BlockToSave]) -> tuple[BlockHash, ...]:
        """Write, make durable, publish. Blocks that exceed the budget together raise before anything is changed."""
        with self._using(), self._writing:
            drafts = self._drafts(blocks)
            if not drafts:
                return ()
            evicted = self._make_room(sum(draft.nbytes for draft in drafts), blocks)
            self._publish(drafts)
            return evicted

    def load(self, block_hash: BlockHash, place: Place) -> None:
        """Read and verify. A damaged block, and one whose file is gone, is unpublished first and then reported."""
        with self._using():
            published = self._index.find(block_hash)
            if published is None:
                raise BlockMissingError(f"block {block_hash.hex()} is not in the store {self.path}")
            try:
                self._folder.read(published, place)
            except FileNotFoundError as exc:
                self._drop(published, "its file is gone", is_gone=True)
                raise BlockMissingError(f"the file of block {block_hash.hex()} is gone from {self.path}") from exc
            except BlockDamagedError as exc:
                self._drop(published, str(exc))
                raise BlockDamagedError(f"block {block_hash.hex()} in {self.path} is damaged: {exc}") from exc

    def delete(self, hashes: Iterable[BlockHash]) -> None:
        """Rows first, then files: never a row without its file."""
        with self._using(), self._writing:
            self._remove(list(hashes))

    def touch(self, hashes: Iterable[BlockHash]) -> None:
        """Kept in memory until the next transaction, or ``close``."""
        with self._using():
            self._index.touch(hashes)

    # -- agents ----------------------------------------------------------------------------------

    def agents(self) -> list[StoredAgent]:
        """Every agent whose record can be read; others are reported and kept."""
        with self._using():
            return self._index.agents()

    def save_agent(self, record: AgentRecord, blocks: Sequence[BlockHash]) -> None:
        """One transaction, durable when this returns."""
        with self._using():
            self._index.save_agent(record, blocks)

    def forget_agent(self, namespace: str, name: str, erase: Iterable[BlockHash]) -> None:
        """Rows, files, the index's log, and an index that was set aside: none keeps a trace."""
        with self._using(), self._writing:
            hashes = list(erase)
            self._index.forget_agent(namespace, name, hashes)
            self._erase(hashes)

    # -- the whole -------------------------------------------------------------------------------

    def stats(self) -> StoreStats:
        """Counts now; bytes are those of the block files."""
        with self._using():
            index = self._index
            return StoreStats(
                blocks=index.num_blocks(),
                bytes=index.num_bytes(),
                agents=index.num_agents(),
                budget_bytes=self.budget_bytes,
            )

    def contexts(self) -> list[ContextStats]:
        """By the digests of the contexts."""
        with self._using():
            return self._index.contexts()

    def verify(self) -> Iterator[BlockReport]:
        """One report per block, as it is read. Blocks that go in the meantime are passed over."""
        with self._using():
            rows = self._index.published()
        for published in rows:
            with self._using():
                damage = self._damage(published)
                if damage and self._index.find(published.block.hash) != published:
                    continue
            path = str(self._folder.path_of(published.block.hash))
            yield BlockReport(hash=published.block.hash, path=path, nbytes=published.nbytes, damage=damage)

    def check_integrity(self) -> None:
        """Names of files against the index, between two writes."""
        with self._using(), self._writing:
            published, there = self._index.hashes(), self._folder.contents()
        missing = [self._folder.path_of(name).name for name in published - there.blocks]
        strays = [self._folder.path_of(name).name for name in there.blocks - published]
        if missing or strays or there.unfinished:
            raise StoreIntegrityError(
                f"the store {self.path} publishes {len(published)} blocks; {len(missing)} of their files are missing "
                f"{sorted(missing)[:3]}, {len(strays)} files are not published {sorted(strays)[:3]}, and "
                f"{len(there.unfinished)} are unfinished {sorted(there.unfinished)[:3]}"
            )

    def clear(self) -> None:
        """Erase all, without a trace."""
        with self._using(), self._writing:
            hashes = list(self._index.hashes())
            self._index.clear()
            self._erase(hashes)

    def close(self) -> None:
        """Write the latest uses, close the index, free the lock."""
        self._check_process()
        with self._writing, refusals(self.path):
            if self._closed:
                return
            self._closed = True
            self._resources.close()

    # -- within ----------------------------------------------------------------------------------

    def _open(self, filesystem: FileSystem) -> None:
        disk = OsFileSystem()
        disk.make_folder(self.path)
        with ExitStack() as resources:
            resources.callback(StoreLock(self.path).release)
            connection = open_index(self.path / _INDEX, self._telemetry)
            self._index = Index(connection, open_reader(self.path / _INDEX), self._telemetry)
            resources.callback(self._index.close)
            disk.sync_folder(self.path)
            disk.sync_folder(self.path.parent)
            self._folder = BlockFolder(self.path / "blocks", filesystem)
            self._tidy()
            self._resources = resources.pop_all()

    def _tidy(self) -> None:
        strays = self._folder.sweep(self._index.hashes())
        if strays:
            self._telemetry.event("store.swept", path=str(self.path), files=strays)
        self._make_room(0, ())

    @contextmanager
    def _using(self) -> Iterator[None]:
        self._check_process()
        if self._closed:
            raise StoreError(f"the store {self.path} was closed; open it again")
        with refusals(self.path):
            yield

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise StoreForkedError(
                f"the store {self.path} was opened by process {self._process} and used in its fork {os.getpid()}; "
                "open the engine in the process that uses it"
            )

    def _drafts(self, blocks: Sequence[BlockToSave]) -> list[Draft]:
        """Those that are not published yet, each once."""
        by_hash = {block.block.hash: block for block in blocks}
        published = self._index.among(list(by_hash))
        return [Draft.of(block) for block_hash, block in by_hash.items() if block_hash not in published]

    def _make_room(self, num_bytes: int, blocks: Sequence[BlockToSave]) -> tuple[BlockHash, ...]:
        """Evict until ``num_bytes`` more fit the budget: neither ``blocks`` nor what they stand on."""
        if self.budget_bytes is None or (excess := self._index.num_bytes() + num_bytes - self.budget_bytes) <= 0:
            return ()
        keep = {name for block in blocks for name in (block.block.hash, block.block.parent)}
        candidates = self._index.candidates()
        victims = choose_victims(candidates, excess, keep)
        if sum(candidate.nbytes for candidate in candidates if candidate.hash in set(victims)) < excess:
            raise StoreFullError(
                f"{num_bytes:,} bytes do not fit the budget of {self.budget_bytes:,} bytes of the store {self.path}, "
                "even without every block that can be evicted; raise the budget"
            )
        self._remove(victims)
        self._telemetry.event("store.evicted", path=str(self.path), blocks=len(victims))
        return victims

    def _publish(self, drafts: Sequence[Draft]) -> None:
        written = self._folder.write(drafts)
        try:
            self._index.publish(written)
        except Exception:
            self._folder.discard(draft.hash for draft in drafts)
            raise

    def _remove(self, hashes: Sequence[BlockHash]) -> None:
        self._index.withdraw(hashes)
        self._folder.discard(hashes)

    def _erase(self, hashes: Sequence[BlockHash]) -> None:
        """The rows are gone already."""
        self._folder.erase(hashes)
        self._index.truncate_log()
        erase_aside(self.path / _INDEX)

    def _drop(self, published: Published, reason: str, *, is_gone: bool = False) -> None:
        """Unpublish a block that can't be read, unless it was evicted, or saved again, in the meantime."""
        block_hash = published.block.hash
        with self._writing:
            if self._index.find(block_hash) != published or (is_gone and self._folder.has(block_hash)):
                return
            self._remove([block_hash])
        self._telemetry.error("store.block.damaged", hash=block_hash.hex(), path=str(self.path), reason=reason)

    def _damage(self, published: Published) -> str:
        try:
            self._folder.read(published, Scratch())
        except FileNotFoundError:
            return "its file is gone"
        except (BlockDamagedError, OSError) as exc:
            return str(exc)
        return ""
