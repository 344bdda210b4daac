"""The index: which blocks are published, and the agents. A block is in the store if and only if it has a row here."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any

from semantic.adapters.storage.agent_json import decode_record, encode_record
from semantic.adapters.storage.block_file import BLOCK_FORMAT
from semantic.adapters.storage.eviction import Candidate
from semantic.adapters.storage.published import Published
from semantic.application.ports.block_store import ContextStats, StoredAgent, StoredBlock
from semantic.application.ports.telemetry import Telemetry
from semantic.domain.errors import StoreError
from semantic.domain.identifiers import BlockHash
from semantic.domain.value_objects import AgentRecord

_BLOCK = "hash, parent, context, start, tokens, has_state"
_IN_CALL = 500  # hashes in one statement; SQLite takes at least 999 parameters


class Index:
    """One connection for transactions, which are durable when their verb returns, and one for reading.

    Each is behind a lock of its own: whoever reads a block waits for no transaction that is being made durable. Uses
    are noted in memory and written with the next transaction: a power cut may forget the latest ones.
    """

    def __init__(self, connection: sqlite3.Connection, reader: sqlite3.Connection, telemetry: Telemetry) -> None:
        self._connection, self._reader = connection, reader
        self._telemetry = telemetry
        self._lock, self._reading = RLock(), Lock()
        self._used: dict[BlockHash, int] = {}
        self._clock: int = connection.execute("SELECT coalesce(max(last_used), 0) FROM blocks").fetchone()[0]

    def close(self) -> None:
        """Write what is still to be written, and close."""
        try:
            self._flush_uses()
        finally:
            self._reader.close()
            self._connection.close()

    # -- blocks ----------------------------------------------------------------------------------

    def blocks(self, context: str) -> list[StoredBlock]:
        """The blocks of a context. A parent starts earlier than its children, so it comes earlier."""
        rows = self._rows(f"SELECT {_BLOCK} FROM blocks WHERE context = ? ORDER BY start", context)
        return [_block(row) for row in rows]

    def published(self) -> list[Published]:
        """All rows, contexts one after the other."""
        return [
            _published(row)
            for row in self._rows(f"SELECT {_BLOCK}, nbytes, checksum FROM blocks ORDER BY context, start")
        ]

    def find(self, block_hash: BlockHash) -> Published | None:
        """One row."""
        rows = self._rows(f"SELECT {_BLOCK}, nbytes, checksum FROM blocks WHERE hash = ?", block_hash)
        return _published(rows[0]) if rows else None

    def hashes(self) -> set[BlockHash]:
        """The names of all blocks."""
        return {BlockHash(block_hash) for (block_hash,) in self._rows("SELECT hash FROM blocks")}

    def among(self, hashes: Sequence[BlockHash]) -> set[BlockHash]:
        """Those of ``hashes`` that are published."""
        found: set[BlockHash] = set()
        for start in range(0, len(hashes), _IN_CALL):
            some = hashes[start : start + _IN_CALL]
            marks = ",".join("?" * len(some))
            found |= {
                BlockHash(row[0]) for row in self._rows(f"SELECT hash FROM blocks WHERE hash IN ({marks})", *some)
            }
        return found

    def publish(self, blocks: Sequence[Published]) -> None:
        """Add rows, all or none. They count as used just now, in this order."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [self._row(block) for block in blocks]
            )

    def withdraw(self, hashes: Iterable[BlockHash]) -> None:
        """Delete rows."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM blocks WHERE hash = ?", [(block_hash,) for block_hash in hashes])

    def touch(self, hashes: Iterable[BlockHash]) -> None:
        """Note that these were used just now, in this order."""
        with self._lock:
            self._used.update((block_hash, self._tick()) for block_hash in hashes)

    def candidates(self) -> list[Candidate]:
        """All blocks as eviction sees them."""
        self._flush_uses()
        rows = self._rows("SELECT hash, parent, nbytes, last_used, hash IN (SELECT hash FROM agent_blocks) FROM blocks")
        return [Candidate(BlockHash(h), BlockHash(p), nbytes, used, bool(ref)) for h, p, nbytes, used, ref in rows]

    def contexts(self) -> list[ContextStats]:
        """Counts of each context."""
        rows = self._rows("SELECT context, count(*), sum(nbytes) FROM blocks GROUP BY context ORDER BY context")
        return [ContextStats(context=context, blocks=blocks, bytes=nbytes) for context, blocks, nbytes in rows]

    def num_bytes(self) -> int:
        """Bytes of all block files."""
        return int(self._rows("SELECT coalesce(sum(nbytes), 0) FROM blocks")[0][0])

    def num_blocks(self) -> int:
        """Published blocks."""
        return int(self._rows("SELECT count(*) FROM blocks")[0][0])

    # -- agents ----------------------------------------------------------------------------------

    def agents(self) -> list[StoredAgent]:
        """Every agent. A record that can't be read stays where it is, is reported, and left out."""
        references: dict[tuple[str, str], list[BlockHash]] = {}
        for *key, block_hash in self._rows(
            "SELECT namespace, name, hash FROM agent_blocks ORDER BY namespace, name, position"
        ):
            references.setdefault((key[0], key[1]), []).append(BlockHash(block_hash))
        rows = self._rows("SELECT namespace, name, record, tokens FROM agents ORDER BY namespace, name")
        found = [(self._record(*row), references.get((row[0], row[1]), [])) for row in rows]
        return [StoredAgent(record, tuple(hashes)) for record, hashes in found if record is not None]

    def num_agents(self) -> int:
        """Agents, readable or not."""
        return int(self._rows("SELECT count(*) FROM agents")[0][0])

    def save_agent(self, record: AgentRecord, blocks: Sequence[BlockHash]) -> None:
        """Replace an agent's record and references, both or neither."""
        key = (record.namespace, record.name)
        text, tokens = encode_record(record)
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?, ?)", (*key, text, tokens, record.updated_at)
            )
            connection.execute("DELETE FROM agent_blocks WHERE namespace = ? AND name = ?", key)
            connection.executemany(
                "INSERT INTO agent_blocks VALUES (?, ?, ?, ?)", [(*key, *reference) for reference in enumerate(blocks)]
            )

    def forget_agent(self, namespace: str, name: str, erase: Sequence[BlockHash]) -> None:
        """Delete an agent with its references, and the rows of ``erase``, all or none."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM agents WHERE namespace = ? AND name = ?", (namespace, name))
            connection.execute("DELETE FROM agent_blocks WHERE namespace = ? AND name = ?", (namespace, name))
            self.withdraw(erase)

    def clear(self) -> None:
        """Delete every row but the version."""
        with self._transaction() as connection:
            for table in ("blocks", "agents", "agent_blocks"):
                connection.execute(f"DELETE FROM {table}")

    def truncate_log(self) -> None:
        """Leave nothing of what was deleted in the log. Raises ``StoreError`` if another program reads the index."""
        with self._lock, self._reading:
            is_busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise StoreError("another program reads the index, so that its log still holds what was erased; end it")

    # -- within ----------------------------------------------------------------------------------

    def _record(self, namespace: str, name: str, text: str, tokens: bytes) -> AgentRecord | None:
        try:
            return decode_record(text, tokens)
        except ValueError as exc:
            self._telemetry.error("store.agent.unreadable", namespace=namespace, agent=name, reason=str(exc))
            return None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. One within another is part of it."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._write_uses()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._used.clear()

    def _flush_uses(self) -> None:
        if self._used:
            with self._transaction():
                pass  # every transaction takes them along

    def _write_uses(self) -> None:
        uses = [(tick, block_hash) for block_hash, tick in self._used.items()]
        self._connection.executemany("UPDATE blocks SET last_used = ? WHERE hash = ?", uses)

    def _rows(self, statement: str, *values: object) -> list[Any]:
        """What was committed."""
        with self._reading:
            return self._reader.execute(statement, values).fetchall()

    def _row(self, published: Published) -> tuple[object, ...]:
        block = published.block
        identity = (block.hash, block.parent, block.context, block.start, block.tokens, block.has_state)
        return (*identity, published.nbytes, published.checksum, BLOCK_FORMAT, self._tick())

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _block(row: Sequence[Any]) -> StoredBlock:
    block_hash, parent, context, start, tokens, has_state = row[:6]
    return StoredBlock(
        hash=block_hash, parent=parent, context=context, start=start, tokens=tokens, has_state=bool(has_state)
    )


def _published(row: Sequence[Any]) -> Published:
    return Published(_block(row), *row[6:])
