"""SHA-256 of files that are read once: by path, size and times from then on."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from semantic.adapters.atomic import write_atomically
from semantic.adapters.model_sources.verified_file import sha256_of

_NAME = "fingerprints.json"
_SETTLED_NS = 2 * 10**9
"""A file changed less than this ago could change once more without its times telling."""

_Entries = dict[str, list[Any]]
"""By resolved path: size, time of change of contents and of the file in nanoseconds, SHA-256."""


@frozen
class HashedFiles:
    """``folder`` holds what is known. Without one, or with one that can't be used, files are read every time."""

    folder: Path | None = None

    def sha256_of(self, files: Sequence[Path]) -> list[str]:
        """In hex, in the order of ``files``. A link counts as what it leads to, so that snapshots share an entry."""
        known, fresh = self._read(), {}
        hashes = []
        for path in (file.resolve() for file in files):
            stamp, entry = _stamp(path), known.get(str(path))
            if entry is None or entry[:-1] != stamp:
                entry = [*stamp, sha256_of(path)]
                if _stamp(path) == stamp and time.time_ns() - max(stamp[1:]) > _SETTLED_NS:
                    fresh[str(path)] = entry
            hashes.append(str(entry[-1]))
        if fresh:
            self._add(fresh)
        return hashes

    def _read(self) -> _Entries:
        """Nothing where the file is missing or damaged."""
        if self.folder is None:
            return {}
        try:
            entries = json.loads((self.folder / _NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {path: entry for path, entry in entries.items() if _is_entry(entry)} if isinstance(entries, dict) else {}

    def _add(self, fresh: _Entries) -> None:
        """Drops what lies there no more. Of two processes that write at once one is forgotten, and hashes again."""
        if self.folder is not None:
            kept = {path: entry for path, entry in self._read().items() if Path(path).exists()}
            with contextlib.suppress(OSError):
                write_atomically(self.folder / _NAME, json.dumps({**kept, **fresh}, indent=0))


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or [type(part) for part in entry] != [int, int, int, str]:
        return False
    return len(entry[3]) == 64 and set(entry[3]) <= set("0123456789abcdef")
