"""The index's file: made, checked, set aside when damaged."""

import os
import sqlite3
import sys
from pathlib import Path

from semantic.adapters.storage.refusals import is_damage
from semantic.application.ports.telemetry import Telemetry
from semantic.domain.errors import StoreTooNewError

STORE_FORMAT = 1
"""Raised when a previous version could misread the folder. Table ``meta`` says it in every version."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    hash BLOB PRIMARY KEY, parent BLOB NOT NULL, context TEXT NOT NULL, start INTEGER NOT NULL, tokens BLOB NOT NULL,
    has_state INTEGER NOT NULL, nbytes INTEGER NOT NULL, checksum TEXT NOT NULL, format INTEGER NOT NULL,
    last_used INTEGER NOT NULL
);
CREATE INDEX blocks_by_context ON blocks (context, start);
CREATE TABLE agents (
    namespace TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, tokens BLOB NOT NULL, updated TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
);
CREATE TABLE agent_blocks (
    namespace TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (namespace, name, position)
) WITHOUT ROWID;
CREATE INDEX agent_blocks_by_hash ON agent_blocks (hash);
"""
_ASIDE = ".damaged"
_COMPANIONS = ("", "-wal", "-shm")


def open_index(path: Path, telemetry: Telemetry) -> sqlite3.Connection:
    """Open the index, making it where there is none. One that is damaged is set aside, with a logged error.

    Raises ``StoreTooNewError``, and leaves the file as it is, if a newer version made it.
    """
    try:
        return _open(path)
    except sqlite3.Error as exc:
        if not is_damage(exc):
            raise
        aside = _set_aside(path)
        telemetry.error("store.index.damaged", path=str(path), reason=str(exc), moved_to=str(aside))
        return _open(path)


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection to an index that is open, which writes nothing."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def erase_aside(path: Path) -> None:
    """Unlink what a damaged index was moved to: it may hold what is to be forgotten."""
    for companion in _COMPANIONS:
        _aside(path, companion).unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's own files take over this mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync = ON")
        _create(connection)
        return connection
    except BaseException:
        connection.close()
        raise


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Pass an empty index, and a whole one of a version that we read."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return
    if "meta" not in tables:
        raise _damage("it is another program's database")
    row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    if row is None or not str(row[0]).isdecimal():
        raise _damage("it has no format version")
    if int(row[0]) > STORE_FORMAT:
        raise StoreTooNewError(str(path), int(row[0]), STORE_FORMAT)
    if missing := {"blocks", "agents", "agent_blocks"} - tables:
        raise _damage(f"it has no table {min(missing)}")
    for (verdict,) in connection.execute("PRAGMA quick_check(1)"):
        if verdict != "ok":
            raise _damage(verdict)


def _create(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return
    version = f"INSERT INTO meta VALUES ('format', '{STORE_FORMAT}');"
    connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}{version}COMMIT;")


def _damage(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _set_aside(path: Path) -> Path:
    """Move the index with its log. What an earlier one was moved to is replaced."""
    erase_aside(path)
    for companion in _COMPANIONS:
        if (found := path.with_name(path.name + companion)).exists():
            os.replace(found, _aside(path, companion))
    return _aside(path, "")


def _aside(path: Path, companion: str) -> Path:
    return path.with_name(f"{path.name}{_ASIDE}{companion}")
