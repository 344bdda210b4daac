"""Memory for blocks from the store that the system has found before they come."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def fresh(nbytes: int) -> Bytes:
    """Memory that the system finds as it is written, which takes about as long as to read into it."""
    return np.empty(nbytes, np.uint8)


class SpareMemory:
    """Pieces of one size, each of which is given once. Any thread may ask."""

    def __init__(self) -> None:
        self._pieces: list[Bytes] = []
        self._nbytes = 0

    def provide(self, pieces: int, nbytes: int) -> None:
        """Have so many pieces of ``nbytes``, instead of what is left."""
        self._nbytes = nbytes
        self._pieces = [np.ones(nbytes, np.uint8) for _ in range(pieces)]

    def clear(self) -> None:
        """Give back what nobody asked for."""
        self._pieces.clear()

    def take(self, nbytes: int) -> Bytes:
        """A spare piece, or fresh memory if there is none of just this size."""
        try:
            return self._pieces.pop() if nbytes == self._nbytes else fresh(nbytes)
        except IndexError:
            return fresh(nbytes)
