"""The last so many values of something that is measured all the time."""

from array import array


class SlidingWindow:
    """A ring of ``size`` numbers. One thread records, in constant time; any may read."""

    def __init__(self, size: int) -> None:
        self._ring = array("d", bytes(8 * size))
        self._recorded = 0

    def record(self, value: float) -> None:
        """Take one in; the oldest one goes when the ring is full."""
        self._ring[self._recorded % len(self._ring)] = value
        self._recorded += 1

    def values(self) -> "array[float]":
        """A copy of those there are, in no particular order."""
        return self._ring[: self._recorded]
