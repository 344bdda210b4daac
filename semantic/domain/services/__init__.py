"""Services of the domain: who holds which block."""

from semantic.domain.services.block_pool import Allocation, BlockPool, Released

__all__ = ["Allocation", "BlockPool", "Released"]
