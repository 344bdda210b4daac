"""The few things that publishing a file asks of the system, as a seam: tests put a disk that forgets behind it."""

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

GROUP_BYTES = 512 * 1024
"""What one system call moves. Small enough that the bytes are still in the L2 cache when they are hashed."""

_GROUP_PIECES = 512  # systems take at least 1,024 pieces in one call (IOV_MAX)
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class NewFile(Protocol):
    """A file that is being written."""

    def write(self, pieces: Iterable[memoryview]) -> None:
        """Append all of the pieces."""

    def sync(self) -> None:
        """Return when the contents would survive a power cut. The name may not."""


class OpenFile(Protocol):
    """A file that is being read. It stays readable when its name is taken away."""

    @property
    def size(self) -> int:
        """Bytes in it when it was opened."""

    def read(self, pieces: Sequence[memoryview], offset: int) -> int:
        """Fill the pieces of one group with what lies at ``offset``. Returns the bytes read, fewer only at the end."""


class FileSystem(Protocol):
    """Raises ``OSError`` as the system does. ``FileNotFoundError`` where a name is missing, but for the verbs below."""

    def make_folder(self, path: Path) -> None:
        """Make a folder for its owner alone, parents too. One that is there is left as it is."""

    def create(self, path: Path) -> AbstractContextManager[NewFile]:
        """An empty file for its owner alone, in the place of whatever had the name."""

    def open(self, path: Path) -> AbstractContextManager[OpenFile]:
        """Open for reading."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file a name in the same folder, at once, in the place of whatever had it."""

    def sync_folder(self, path: Path) -> None:
        """Return when the names in this folder would survive a power cut."""

    def unlink(self, path: Path) -> None:
        """Take a name away. A missing one is a no-op."""

    def names(self, path: Path) -> list[str]:
        """The names in a folder, in any order. None in a missing one, nor in a file."""


class OsFileSystem:
    """The disk. Interrupted calls are repeated (PEP 475), and calls that did a part go on with the rest."""

    def make_folder(self, path: Path) -> None:
        """``mkdir -p``, mode 0700."""
        path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)

    @contextmanager
    def create(self, path: Path) -> Iterator["_Writing"]:
        """Mode 0600; an existing file is emptied."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
        try:
            yield _Writing(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def open(self, path: Path) -> Iterator["_Reading"]:
        """Through one descriptor, so that what is read is one file's."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _Reading(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """``rename(2)``."""
        os.replace(old, new)

    def sync_folder(self, path: Path) -> None:
        """``fsync`` of the folder."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """``unlink(2)``."""
        path.unlink(missing_ok=True)

    def names(self, path: Path) -> list[str]:
        """``listdir``."""
        try:
            return os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return []


def in_groups(pieces: Iterable[memoryview]) -> Iterator[list[memoryview]]:
    """The same bytes in the same order, in groups that one system call takes. Large pieces are cut."""
    group: list[memoryview] = []
    num_bytes = 0
    for piece in filter(len, pieces):
        for part in _cut(piece) if piece.nbytes > GROUP_BYTES else (piece,):
            group.append(part)
            num_bytes += part.nbytes
            if num_bytes >= GROUP_BYTES or len(group) == _GROUP_PIECES:
                yield group
                group, num_bytes = [], 0
    if group:
        yield group


def _cut(piece: memoryview) -> Iterator[memoryview]:
    for start in range(0, piece.nbytes, GROUP_BYTES):
        yield piece[start : start + GROUP_BYTES]


class _Writing:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, pieces: Iterable[memoryview]) -> None:
        for group in in_groups(pieces):
            left = group
            while left:
                written = os.writev(self._descriptor, left)
                if written == 0:
                    raise OSError(errno.EIO, "the system wrote nothing")
                left = _after(left, written)

    def sync(self) -> None:
        full = getattr(fcntl, "F_FULLFSYNC", None)  # on macOS fsync does not reach the disk's own cache
        if full is not None:
            with suppress(OSError):
                fcntl.fcntl(self._descriptor, full)
                return
        os.fsync(self._descriptor)


class _Reading:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, pieces: Sequence[memoryview], offset: int) -> int:
        done = 0
        left = list(pieces)
        while left and (count := os.preadv(self._descriptor, left, offset + done)):
            done += count
            left = _after(left, count)
        return done


def _after(pieces: list[memoryview], done: int) -> list[memoryview]:
    """What is left of the pieces behind their first ``done`` bytes."""
    for index, piece in enumerate(pieces):
        if done < piece.nbytes:
            return [piece[done:], *pieces[index + 1 :]]
        done -= piece.nbytes
    return []
