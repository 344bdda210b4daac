"""Stores for experiments, in temporary folders."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from semantic.adapters.fakes.filesystem import DroppingFileSystem, PowerCut
from semantic.adapters.json_child import JsonChild
from semantic.adapters.storage.disk_store import DiskStore
from semantic.application.ports.block_store import BlockStore


class ExperimentStores:
    """Fulfils the port of stores with real ones. ``parent`` is where the folders are made."""

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent

    @contextmanager
    def place(self) -> Iterator[str]:
        """A folder."""
        with tempfile.TemporaryDirectory(prefix="semantic-experiment-", dir=self._parent) as folder:
            yield str(Path(folder) / "kv")

    def open(self, place: str) -> DiskStore:
        """Without a budget."""
        return DiskStore(Path(place))

    @contextmanager
    def disk(self, cut_at: int | None = None) -> Iterator["DroppingDisk"]:
        """The blocks' files are in memory; the index is a real file that SQLite looks after."""
        with self.place() as place:
            yield DroppingDisk(Path(place), DroppingFileSystem(cut_at))

    def writer(self, place: str, *, block_bytes: int) -> "ProcessWriter":
        """A child process."""
        return ProcessWriter(place, block_bytes)


class DroppingDisk:
    """A store's folder whose block files lie on a :class:`DroppingFileSystem`."""

    def __init__(self, folder: Path, filesystem: DroppingFileSystem) -> None:
        self._folder, self._files = folder, filesystem

    @property
    def operations(self) -> int:
        """Those on block files and their folders."""
        return self._files.operations

    def run(self, work: Callable[[BlockStore], object]) -> bool:
        """What the cut leaves of the index is what SQLite had committed."""
        store = None
        try:
            store = DiskStore(self._folder, filesystem=self._files)
            work(store)
        except PowerCut:
            return False
        finally:
            if store is not None:
                store.close()
        return True

    def after_power_cut(self, seed: int) -> "DroppingDisk":
        """The index as it was at the cut, in the same folder."""
        crashed = self._folder.with_name("crashed")
        if not crashed.exists():
            self._folder.mkdir(exist_ok=True)
            self._folder.rename(crashed)
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(crashed, self._folder)
        return DroppingDisk(self._folder, self._files.after_power_cut(seed))


class ProcessWriter:
    """A writer that SIGKILL ends."""

    def __init__(self, place: str, block_bytes: int) -> None:
        self._child = JsonChild(
            "semantic.adapters.storage.writer_worker", ["--store", place, "--block-bytes", str(block_bytes)]
        )
        self._child.hear()

    def kill(self, *, after: int, delay_s: float) -> int:
        """What the process had still said when it died counts as returned."""
        try:
            for _ in range(after):
                self._child.hear()
            time.sleep(delay_s)
        finally:
            left = self._child.kill()
        return after + len(left)
