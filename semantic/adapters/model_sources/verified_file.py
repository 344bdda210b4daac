"""A file that is known to be whole: checked by SHA-256 once, by size and time of change from then on."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from semantic.domain.errors import ModelDamagedError

_CHUNK = 1 << 20


@frozen
class VerifiedFile:
    """``path`` holds exactly the bytes of ``sha256``, and a stamp beside it remembers when that was seen."""

    path: Path
    sha256: str

    def is_whole(self) -> bool:
        """Whether the file is there and unaltered. Reads it all only where the stamp does not match."""
        if not self.path.is_file():
            return False
        if self._stamp_path.exists() and self._stamp_path.read_text(errors="replace") == self._stamp():
            return True
        with self.path.open("rb") as file:
            if _digest(file) != self.sha256:
                return False
        self._write_stamp()
        return True

    def install(self, source: BinaryIO, describe: str) -> None:
        """Copy ``source`` here: temporary name, hash, fsync, rename. Raises ``ModelDamagedError`` on other
        bytes.
        """
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                found = _digest(source, file.write)
                file.flush()
                os.fsync(file.fileno())
            if found != self.sha256:
                raise ModelDamagedError(f"{describe} has SHA-256 {found} where {self.sha256} was expected")
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(self.path.parent)
        self._write_stamp()

    @property
    def _stamp_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.verified")

    def _stamp(self) -> str:
        facts = self.path.stat()
        return json.dumps({"sha256": self.sha256, "size": facts.st_size, "mtime_ns": facts.st_mtime_ns})

    def _write_stamp(self) -> None:
        with contextlib.suppress(OSError):  # a read-only cache is checked in full every time
            self._stamp_path.write_text(self._stamp())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return _digest(file)


def _digest(source: BinaryIO, also: Callable[[bytes], object] = lambda _: None) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        also(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
