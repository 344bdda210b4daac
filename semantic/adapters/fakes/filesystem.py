"""A disk that forgets, when the power goes, whatever was not made durable: as cruelly as POSIX allows."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from attrs import define, field


class PowerCut(BaseException):
    """The machine went off. Not an ``Exception``, since nothing may handle it."""


@define(eq=False)
class _File:
    content: bytearray = field(factory=bytearray)
    durable: bytes = b""


@define(eq=False)
class _Folder:
    """``changes`` are those since the last sync; each sets names, or takes them away (None)."""

    entries: dict[str, "_File | _Folder"] = field(factory=dict)
    durable: dict[str, "_File | _Folder"] = field(factory=dict)
    changes: list[dict[str, "_File | _Folder | None"]] = field(factory=list)

    def change(self, change: dict[str, "_File | _Folder | None"]) -> None:
        self.changes.append(change)
        _apply(change, self.entries)

    def sync(self) -> None:
        self.durable, self.changes = dict(self.entries), []


class DroppingFileSystem:
    """A file system in memory. Contents last from their ``sync`` on, names from their folder's.

    The operation number ``cut_at`` (from 1) raises ``PowerCut``, and so does every one after it; a write may have
    been done in part. ``after_power_cut`` is what the disk holds then: of all that was not synced any part, by
    ``seed``. ``operations`` counts what was done::

        disk = DroppingFileSystem(cut_at=7)
        with pytest.raises(PowerCut):
            DiskStore(folder, filesystem=disk).save(blocks)
        store = DiskStore(folder, filesystem=disk.after_power_cut(seed=1))

    ``refuse`` maps an operation's number to the ``OSError`` that it raises once.
    """

    def __init__(self, cut_at: int | None = None, refuse: dict[int, OSError] | None = None) -> None:
        self.cut_at = cut_at
        self.refuse = refuse or {}
        self.operations = 0
        self._root = _Folder()

    def after_power_cut(self, seed: int = 0) -> "DroppingFileSystem":
        """A new file system with what is left, without a further cut."""
        left = DroppingFileSystem()
        left._root = _Survivors(Random(seed)).folder(self._root)
        return left

    def make_folder(self, path: Path) -> None:
        """Parents that are missing belong to the real disk, and count as durable."""
        self._operate()
        *parents, name = path.parts
        folder = self._root
        for part in parents:
            folder.durable.setdefault(part, folder.entries.setdefault(part, _Folder()))
            folder = _as_folder(folder.entries[part])
        if name not in folder.entries:
            folder.change({name: _Folder()})

    @contextmanager
    def create(self, path: Path) -> Iterator["_Writing"]:
        """An empty file. A cut finds its name there or not."""
        self._operate()
        file = _File()
        self._folder(path.parent).change({path.name: file})
        yield _Writing(self, file)

    @contextmanager
    def open(self, path: Path) -> Iterator["_Reading"]:
        """What is written, durable or not."""
        self._operate()
        node = self._folder(path.parent).entries.get(path.name)
        if not isinstance(node, _File):
            raise FileNotFoundError(path)
        yield _Reading(node)

    def rename(self, old: Path, new: Path) -> None:
        """After a cut the file has either name, or both, or none."""
        self._operate()
        folder = self._folder(old.parent)
        folder.change({new.name: folder.entries[old.name], old.name: None})

    def sync_folder(self, path: Path) -> None:
        """Make names durable."""
        self._operate()
        self._folder(path).sync()

    def unlink(self, path: Path) -> None:
        """After a cut the name may be back."""
        self._operate()
        try:
            folder = self._folder(path.parent)
        except FileNotFoundError:
            return
        if path.name in folder.entries:
            folder.change({path.name: None})

    def names(self, path: Path) -> list[str]:
        """The names in a folder."""
        self._operate()
        try:
            return list(self._folder(path).entries)
        except FileNotFoundError:
            return []

    def _folder(self, path: Path) -> _Folder:
        folder = self._root
        for part in path.parts:
            folder = _as_folder(folder.entries.get(part))
        return folder

    def _operate(self) -> None:
        self.operations += 1
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise PowerCut
        if self.operations in self.refuse:
            raise self.refuse.pop(self.operations)


class _Writing:
    def __init__(self, disk: DroppingFileSystem, file: _File) -> None:
        self._disk = disk
        self._file = file

    def write(self, pieces: Iterable[memoryview]) -> None:
        for piece in pieces:
            self._file.content += piece[: piece.nbytes // 2]
            self._disk._operate()
            self._file.content += piece[piece.nbytes // 2 :]

    def sync(self) -> None:
        self._disk._operate()
        self._file.durable = bytes(self._file.content)


class _Reading:
    def __init__(self, file: _File) -> None:
        self._content = bytes(file.content)
        self.size = len(self._content)

    def read(self, pieces: Sequence[memoryview], offset: int) -> int:
        start = offset
        for piece in pieces:
            part = self._content[offset : offset + piece.nbytes]
            piece[: len(part)] = part
            offset += len(part)
        return offset - start


class _Survivors:
    """What a power cut leaves: each file and folder once, under all of its names."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._left: dict[int, _File | _Folder] = {}

    def folder(self, folder: _Folder) -> _Folder:
        entries = dict(folder.durable)
        for change in folder.changes:
            _apply({name: node for name, node in change.items() if self._random.random() < 0.5}, entries)
        left = _Folder({name: self._node(node) for name, node in entries.items()})
        left.sync()
        return left

    def _node(self, node: "_File | _Folder") -> "_File | _Folder":
        if id(node) not in self._left:
            self._left[id(node)] = self.folder(node) if isinstance(node, _Folder) else self._file(node)
        return self._left[id(node)]

    def _file(self, file: _File) -> _File:
        """What was synced; or, where more was written, a beginning of it, zeros in between, or all of it."""
        if bytes(file.content) == file.durable:
            return _File(bytearray(file.durable), file.durable)
        whole = bytes(file.content)
        cut = self._random.randrange(len(whole) + 1)
        content = self._random.choice([file.durable, whole[:cut], whole[:cut] + bytes(len(whole) - cut), whole])
        return _File(bytearray(content), content)


def _apply(change: dict[str, "_File | _Folder | None"], entries: dict[str, "_File | _Folder"]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _as_folder(node: "_File | _Folder | None") -> _Folder:
    if not isinstance(node, _Folder):
        raise FileNotFoundError("there is no such folder")
    return node
