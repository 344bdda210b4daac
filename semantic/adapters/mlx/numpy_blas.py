"""numpy brings a BLAS pool of its own; this keeps it to one thread while our attention runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import LibController, ThreadpoolController

_lock = threading.Lock()
_inside = 0  # engines in the block; the pools are the process's
_before: list[int] = []


class NumpyBlas:
    """The BLAS pools that numpy loaded, MLX's excluded."""

    def __init__(self) -> None:
        np.dot(np.ones(1), np.ones(1))  # make sure that it is loaded before it is looked for
        self._pools: list[LibController] = [
            pool
            for pool in ThreadpoolController().lib_controllers
            if pool.user_api == "blas" and "scipy_openblas" in pool.filepath
        ]

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        """One thread inside the block; when the last engine leaves it, what it was before the first came."""
        global _inside, _before
        with _lock:
            if _inside == 0:
                _before = [pool.get_num_threads() for pool in self._pools]
                for pool in self._pools:
                    pool.set_num_threads(1)
            _inside += 1
        try:
            yield
        finally:
            with _lock:
                _inside -= 1
                if _inside == 0:
                    for pool, threads in zip(self._pools, _before, strict=True):
                        pool.set_num_threads(threads)
