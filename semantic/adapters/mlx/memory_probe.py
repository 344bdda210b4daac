"""MLX's memory counters, and the process's own.

numpy buffers (the paged cache) are invisible to MLX's counters: ``resident`` sees them.
"""

import mlx.core as mx
import psutil

from semantic.application.ports.memory_probe import Holdings, MemoryProbe, MemoryReading


class MLXMemoryProbe(MemoryProbe):
    """Reads MLX's counters (they work on CPU too) and the resident set size of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def read(self) -> MemoryReading:
        return MemoryReading(
            device_active=mx.get_active_memory(),
            device_cache=mx.get_cache_memory(),
            device_peak=mx.get_peak_memory(),
            resident=self._process.memory_info().rss,
        )

    def holdings(self) -> Holdings:
        return Holdings(threads=self._process.num_threads(), open_files=self._process.num_fds())

    def reset_peak(self) -> None:
        mx.reset_peak_memory()
