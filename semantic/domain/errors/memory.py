"""What the block pool and the memory behind it refuse."""

from semantic.domain.errors.base import SemanticError


class PoolError(SemanticError):
    """Base of the block pool's errors. The pool is unchanged whenever one is raised."""


class BlockCountError(PoolError, ValueError):
    """A number of blocks that makes no sense: a negative allocation, a pool of none. Pass a positive one."""


class BudgetTooSmallError(PoolError, ValueError):
    """Not even one block fits the memory budget. Raise the budget, or quantise the KV cache."""

    def __init__(self, budget_bytes: int, bytes_per_block: int, block_tokens: int, workspace_bytes: int = 0) -> None:
        workspace = f" and computing {workspace_bytes:,}" if workspace_bytes else ""
        super().__init__(
            f"a budget of {budget_bytes:,} bytes holds no block: one of {block_tokens} tokens takes "
            f"{bytes_per_block:,}{workspace}, which is {bytes_per_block + workspace_bytes - budget_bytes:,} more; "
            "raise the budget or quantise the KV cache"
        )
        self.budget_bytes, self.bytes_per_block, self.block_tokens = (
            budget_bytes,
            bytes_per_block,
            block_tokens,
        )


class PoolExhaustedError(PoolError):
    """Fewer blocks are free than were requested. Release some, or wait for a sequence to finish."""

    def __init__(self, requested: int, available: int, total: int) -> None:
        super().__init__(f"{requested} blocks were requested, {available} of {total} are available")
        self.requested, self.available, self.total = requested, available, total


class UnknownBlockError(PoolError, KeyError):
    """The block id was never handed out by this pool, or belongs to another pool."""

    def __str__(self) -> str:
        return str(self.args[0])


class BlockNotInUseError(PoolError):
    """The block is not held by anyone: it was released twice, or never allocated."""


class PoolIntegrityError(PoolError):
    """The pool's books do not balance. This is a defect of the library: please report it."""


class PositionNotMappedError(SemanticError, IndexError):
    """The position lies outside the blocks of the sequence's table. Extend the table first."""

    def __init__(self, position: int, capacity_tokens: int) -> None:
        super().__init__(f"position {position} is outside the table's blocks, which hold {capacity_tokens} tokens")
        self.position, self.capacity_tokens = position, capacity_tokens


class MemoryUnavailableError(SemanticError, MemoryError):
    """The system refuses the memory that the budget asks for. Open the engine with less."""

    def __init__(self, requested_bytes: int) -> None:
        super().__init__(
            f"the system refuses {requested_bytes:,} bytes of address space for KV blocks; "
            "open the engine with less memory"
        )
        self.requested_bytes = requested_bytes
