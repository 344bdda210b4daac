"""Ids that cannot be mixed up."""

from typing import NewType

BlockId = NewType("BlockId", int)
"""Names one physical block of a pool; meaningless in any other pool."""

BlockHash = NewType("BlockHash", bytes)
"""Names a block's contents: 32 bytes of SHA-256 over its tokens and all that came before (ADR 0008)."""

RequestId = NewType("RequestId", int)
"""Names one submitted request of an engine, in order of submission."""

TokenId = int
"""An index into the model's vocabulary."""
