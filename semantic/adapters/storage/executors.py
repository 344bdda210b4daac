"""The threads that the store works on, behind those that compute."""

import contextlib
import os
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor

READERS = 2
"""Reading is mostly page faults and checksums; two readers halve it, and more find no more cores."""

_NICE = 10


def make_writer() -> Executor:
    """One thread, in order, which gives way to the threads that compute where the system can be asked for that."""
    return ThreadPoolExecutor(1, thread_name_prefix="semantic-store-writer", initializer=_give_way)


def make_readers() -> Executor:
    """A few threads: a request is waiting for what they read."""
    return ThreadPoolExecutor(READERS, thread_name_prefix="semantic-store-reader")


def _give_way() -> None:
    if sys.platform == "linux":  # there a priority is a thread's, elsewhere the process's
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
