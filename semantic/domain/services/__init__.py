"""Services of the domain: who holds which block, and which contexts are cached."""

from semantic.domain.services.block_pool import Allocation, BlockPool, Released
from semantic.domain.services.prefix_index import Match, PrefixIndex

__all__ = ["Allocation", "BlockPool", "Match", "PrefixIndex", "Released"]
