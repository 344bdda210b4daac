"""Marks the forwards in which operations of ours may replace MLX's: on this thread, inside the block, nowhere else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_local = threading.local()


@contextmanager
def host_operations(wanted: bool) -> Iterator[None]:
    """Inside the block, operations that are faster in numpy than in MLX on the CPU run there, if ``wanted``."""
    _local.active = wanted
    try:
        yield
    finally:
        _local.active = False


def on_host() -> bool:
    """Whether the caller stands inside such a block."""
    return getattr(_local, "active", False)
