"""Memory for what is computed on the way to a block's numbers."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt


class Scratch:
    """Arrays by name, in memory that is used again each time. One thread's.

    Fresh memory costs a page fault for every 4 KiB: more than what is computed in it.
    """

    def __init__(self) -> None:
        self._memory: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """An array that holds whatever was there; what had this name before is overwritten."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._memory.get(name)
        if memory is None or memory.size < nbytes:
            memory = self._memory[name] = np.empty(nbytes, np.uint8)
        array: npt.NDArray[Any] = memory[:nbytes].view(dtype).reshape(shape)
        return array


class Scratches:
    """As many as are used at once, kept for the next time."""

    def __init__(self) -> None:
        self._free: list[Scratch] = []

    @contextmanager
    def one(self) -> Iterator[Scratch]:
        """A scratch that nobody else has meanwhile; any thread may ask."""
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = Scratch()
        try:
            yield scratch
        finally:
            self._free.append(scratch)
