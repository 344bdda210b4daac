"""Replace a file whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path, mode: int = 0o600, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A temporary file in the same folder that is synced and put in the place of ``path`` when the block ends.

    On an error ``path`` is as it was and no temporary file is left. Without ``sync`` a crash of the machine may leave
    an empty file.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Put ``text`` in the place of ``path``. The folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 0o644) as file:
        file.write(text.encode())
