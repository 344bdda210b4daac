"""What memory is really in use."""

from typing import Protocol

from attrs import frozen


@frozen
class MemoryReading:
    """Bytes. ``device_*`` are the tensor library's own counters; ``resident`` is the process's RSS."""

    device_active: int
    device_cache: int
    device_peak: int
    resident: int


@frozen
class Holdings:
    """What else of the system a process holds, and may fail to give back."""

    threads: int
    open_files: int


class MemoryProbe(Protocol):
    """Reads memory counters. Cheap enough to call between steps."""

    def read(self) -> MemoryReading:
        """The counters now."""

    def holdings(self) -> Holdings:
        """Threads and open file descriptors of this process now."""

    def reset_peak(self) -> None:
        """Start a new measurement of ``device_peak``."""
