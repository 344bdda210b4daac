"""The threads that the store works on, beside those that compute.

They have the priority of all others. One that gave way could be kept from the processor by another process while it
holds the interpreter's lock, and the engine would wait with it: seconds, on two busy cores.
"""

from concurrent.futures import Executor, ThreadPoolExecutor

READERS = 2
"""Reading is mostly page faults and checksums; two readers halve it, and more find no more cores."""


def make_writer() -> Executor:
    """One thread, in order."""
    return ThreadPoolExecutor(1, thread_name_prefix="semantic-store-writer")


def make_readers() -> Executor:
    """A few threads: a request is waiting for what they read."""
    return ThreadPoolExecutor(READERS, thread_name_prefix="semantic-store-reader")
