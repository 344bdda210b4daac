"""The folder of block files: ``blocks/ab/<hash>.safetensors``. What is published is the index's business."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from semantic.adapters.storage.block_file import encode_header, read_block, write_block
from semantic.adapters.storage.filesystem import FileSystem
from semantic.adapters.storage.published import Published
from semantic.application.ports.block_store import BlockToSave, Place
from semantic.domain.identifiers import BlockHash

_SUFFIX, _TEMPORARY = ".safetensors", ".tmp"
_HASH_DIGITS = 64


@frozen
class Draft:
    """A block that has its header and is not written yet."""

    block: BlockToSave
    header: bytes

    @classmethod
    def of(cls, block: BlockToSave) -> "Draft":
        """The draft of a block."""
        return cls(block, encode_header(block))

    @property
    def hash(self) -> BlockHash:
        return self.block.block.hash

    @property
    def nbytes(self) -> int:
        """Of the whole file."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.block.tensors)


@frozen
class Contents:
    """The blocks that have a file, and the names of files that nobody has finished."""

    blocks: frozenset[BlockHash]
    unfinished: tuple[str, ...]


class BlockFolder:
    """Writes files so that they are whole and durable when ``write`` returns."""

    def __init__(self, path: Path, filesystem: FileSystem) -> None:
        self.path = path
        self._files = filesystem
        self._durable_folders: set[Path] = set()
        self._files.make_folder(path)
        self._files.sync_folder(path.parent)

    def path_of(self, block_hash: BlockHash) -> Path:
        """Where a block's file lies: in one of 256 folders, so that none grows long."""
        digits = block_hash.hex()
        return self.path / digits[:2] / f"{digits}{_SUFFIX}"

    def has(self, block_hash: BlockHash) -> bool:
        """Whether the block's file is there."""
        path = self.path_of(block_hash)
        return path.name in self._files.names(path.parent)

    def write(self, drafts: Sequence[Draft]) -> list[Published]:
        """Write, sync and name every file, then sync each folder once. After an error none of the files is left."""
        try:
            self._make_folders(drafts)
            written = [self._write_temporary(draft) for draft in drafts]
            for draft in drafts:
                path = self.path_of(draft.hash)
                self._files.rename(path.with_suffix(_TEMPORARY), path)
            self._sync_folders(self._folders_of(draft.hash for draft in drafts))
        except BaseException:
            with suppress(OSError):
                self.discard(draft.hash for draft in drafts)
            raise
        return written

    def read(self, published: Published, place: Place) -> None:
        """Read and verify one block. Raises ``FileNotFoundError`` or ``BlockDamagedError``."""
        with self._files.open(self.path_of(published.block.hash)) as file:
            read_block(file, published, place)

    def discard(self, hashes: Iterable[BlockHash]) -> None:
        """Unlink the blocks' files, finished or not. After a power cut they may be back."""
        for block_hash in hashes:
            path = self.path_of(block_hash)
            self._files.unlink(path)
            self._files.unlink(path.with_suffix(_TEMPORARY))

    def erase(self, hashes: Sequence[BlockHash]) -> None:
        """Unlink the blocks' files for good."""
        self.discard(hashes)
        for folder in self._folders_of(hashes):
            with suppress(FileNotFoundError):
                self._files.sync_folder(folder)

    def sweep(self, known: set[BlockHash]) -> int:
        """Unlink temporaries and blocks that are not ``known``; files of other names are left. Returns how many."""
        strays = [path for path in self._paths() if path.suffix == _TEMPORARY or _is_stray(path.name, known)]
        for path in strays:
            self._files.unlink(path)
        return len(strays)

    def contents(self) -> Contents:
        """What is in the folder now; files of other names are left out."""
        paths = list(self._paths())
        blocks = (_hash_of(path.name) for path in paths)
        unfinished = (path.name for path in paths if path.suffix == _TEMPORARY)
        return Contents(frozenset(block for block in blocks if block is not None), tuple(unfinished))

    def _paths(self) -> Iterator[Path]:
        for folder in (self.path / name for name in self._files.names(self.path)):
            for name in self._files.names(folder):
                yield folder / name

    def _make_folders(self, drafts: Iterable[Draft]) -> None:
        for folder in self._folders_of(draft.hash for draft in drafts) - self._durable_folders:
            self._files.make_folder(folder)

    def _write_temporary(self, draft: Draft) -> Published:
        with self._files.create(self.path_of(draft.hash).with_suffix(_TEMPORARY)) as file:
            checksum = write_block(file, draft.header, draft.block.tensors)
            file.sync()
        return Published(draft.block.block, draft.nbytes, checksum)

    def _folders_of(self, hashes: Iterable[BlockHash]) -> set[Path]:
        return {self.path_of(block_hash).parent for block_hash in hashes}

    def _sync_folders(self, folders: set[Path]) -> None:
        """A folder's own name is synced when this process first uses it: an earlier one may not have come so far."""
        for folder in sorted(folders):
            self._files.sync_folder(folder)
        if not folders <= self._durable_folders:
            self._files.sync_folder(self.path)
            self._durable_folders |= folders


def _is_stray(name: str, known: set[BlockHash]) -> bool:
    block_hash = _hash_of(name)
    return block_hash is not None and block_hash not in known


def _hash_of(name: str) -> BlockHash | None:
    """The block whose file has this name, if it is such a name."""
    digits = name.removesuffix(_SUFFIX)
    if digits == name or len(digits) != _HASH_DIGITS:
        return None
    try:
        return BlockHash(bytes.fromhex(digits))
    except ValueError:
        return None
