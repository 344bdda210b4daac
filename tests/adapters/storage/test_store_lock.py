"""One process has a store open, and whoever else asks is told which."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from semantic.adapters.storage.disk_store import DiskStore
from semantic.adapters.storage.lock import StoreLock
from semantic.domain.errors import StoreLockedError

HOLDING = """
import sys
from pathlib import Path
from semantic.adapters.storage.disk_store import DiskStore
store = DiskStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the store ``kv`` open."""
    command = [sys.executable, "-c", HOLDING, str(folder / "kv")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_store_that_another_process_has_open_is_refused_with_its_name(
    folder: Path, other: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(StoreLockedError, match=f"process {other.pid} on .* since 20") as caught:
        DiskStore(folder / "kv")
    assert caught.value.path == str(folder / "kv")


def test_a_process_that_was_killed_holds_nothing(folder: Path, other: "subprocess.Popen[str]") -> None:
    other.kill()
    other.wait()
    assert (folder / "kv" / "owner.json").exists()
    DiskStore(folder / "kv").close()


def test_the_same_process_cannot_open_a_store_twice(folder: Path) -> None:
    store = DiskStore(folder / "kv")
    with pytest.raises(StoreLockedError, match=f"process {os.getpid()} "):
        DiskStore(folder / "kv")
    store.close()
    DiskStore(folder / "kv").close()


def test_a_store_may_be_closed_by_another_thread(folder: Path) -> None:
    store = DiskStore(folder / "kv")
    thread = Thread(target=store.close)
    thread.start()
    thread.join()
    DiskStore(folder / "kv").close()


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_note_that_cannot_be_read_names_another_process(folder: Path, note: str) -> None:
    lock = StoreLock(folder)
    (folder / "owner.json").write_text(note)
    with pytest.raises(StoreLockedError, match="another process"):
        StoreLock(folder)
    lock.release()
    lock.release()


def test_two_folders_are_two_stores(folder: Path) -> None:
    stores = [DiskStore(folder / name) for name in ("a", "b")]
    for store in stores:
        store.close()
