"""What the store on disk refuses, or has lost."""

from semantic.domain.errors.base import SemanticError


class StoreError(SemanticError):
    """The store's folder cannot be used: the message says what the system refused, and where."""


class StoreIntegrityError(StoreError):
    """The files are not those that the index publishes. Run ``semantic cache verify``, and report it if none was lost
    to the disk or to another program."""


class StoreFullError(StoreError):
    """The disk, or the store's budget, has no room. Free some, or open the engine with another store."""


class StoreLockedError(StoreError):
    """Another process has this store open. Close it there, or give this engine a folder of its own."""

    def __init__(self, path: str, owner: str) -> None:
        super().__init__(f"the store {path} is in use by {owner}; close it there, or open another folder")
        self.path, self.owner = path, owner


class StoreForkedError(StoreError):
    """The process was forked after the store was opened. Open the engine in the process that uses it."""


class StoreTooNewError(StoreError):
    """The store was written by a newer version of this library. Upgrade, or give another folder."""

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(
            f"{path} has store format {found} and this version reads {supported}; "
            "upgrade semantic-kv, or open another folder"
        )
        self.path, self.found, self.supported = path, found, supported


class BlockMissingError(StoreError, KeyError):
    """The store has no such block: it was evicted, erased, or never published. The engine computes it again."""

    def __str__(self) -> str:
        return str(self.args[0])


class BlockDamagedError(StoreError):
    """A stored block is not what was written, or not what this model keeps. The engine computes it again."""
