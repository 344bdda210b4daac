"""What the disk and SQLite refuse, as the store's own errors."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semantic.domain.errors import StoreError, StoreFullError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Raise ``StoreFullError`` where there is no room at ``path``, ``StoreError`` for any other refusal."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise StoreFullError(f"the disk of the store {path} has no room: {exc}; free some") from exc
        raise StoreError(f"the store {path} cannot be used: {exc}") from exc
    except sqlite3.Error as exc:
        if _code(exc) == sqlite3.SQLITE_FULL:
            raise StoreFullError(f"the disk of the store {path} has no room for its index: {exc}; free some") from exc
        raise StoreError(f"the index of the store {path} cannot be used: {exc}") from exc


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is no whole database, rather than that it can't work on it now."""
    return _code(error) in _DAMAGED


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for errors of Python's module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
