"""Waiting for another thread in slices, so that Ctrl-C is seen on every platform."""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

Result = TypeVar("Result")

_SLICE_S = 1.0


def wait_in_slices(wait_s: Callable[[float], bool], timeout: float | None) -> bool:
    """Call ``wait_s`` with at most a second at a time until it is true; False after ``timeout`` seconds."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _SLICE_S if end is None else min(_SLICE_S, end - time.monotonic())
        if wait_s(max(left, 0.0)):
            return True
        if end is not None and time.monotonic() >= end:
            return False


def wait_for(future: "Future[Result]", timeout: float | None, complaint: str) -> Result:
    """What ``future`` comes to. Raises ``TimeoutError`` with the complaint after ``timeout`` seconds."""
    if not wait_in_slices(lambda seconds: future in wait([future], timeout=seconds).done, timeout):
        raise TimeoutError(f"{complaint} within {timeout} s; it goes on")
    return future.result()
