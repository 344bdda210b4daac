"""Where a cached context may be taken up again."""

from enum import StrEnum


class Reuse(StrEnum):
    """Which cached prefixes of a prompt give what computing them again would give.

    ``ANYWHERE``: at any token, because every layer can be cut back. ``AT_STATES``: only where the state of the layers
    that can't be cut back was kept (rotated windows, recurrent state). ``AT_CHUNKS``: only at whole prefill chunks,
    where the very shapes of the computation are the same (the bit lane). ``NEVER``: not at all.
    """

    ANYWHERE = "anywhere"
    AT_STATES = "at states"
    AT_CHUNKS = "at chunks"
    NEVER = "never"
