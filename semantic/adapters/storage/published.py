"""What the index knows of a block beyond what it holds: enough to tell whether its file is the one it wrote."""

from attrs import frozen

from semantic.application.ports.block_store import StoredBlock


@frozen
class Published:
    """``nbytes`` of the whole file, and their XXH3 in 128 bits, as 32 hex digits."""

    block: StoredBlock
    nbytes: int
    checksum: str
