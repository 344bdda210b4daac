"""A few threads that do one piece of work together, many thousand times a second."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class Team:
    """``size`` threads, the calling one included.

    A ThreadPoolExecutor would do; its futures cost twice the 20 us that a layer's attention has to spare.
    """

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self._tasks: SimpleQueue[Work | None] = SimpleQueue()
        self._results: SimpleQueue[Exception | None] = SimpleQueue()
        self._one_at_a_time = threading.Lock()  # two engines on one model share the team of its projections
        self._helpers = [
            threading.Thread(target=self._help, name=f"semantic-attention-{i}", daemon=True)
            for i in range(self.size - 1)
        ]
        for helper in self._helpers:
            helper.start()

    def run(self, work: Work) -> None:
        """Call ``work`` once on every thread and wait for all; it takes its share from an iterator of its own.

        Raises what ``work`` raised, after all have ended.
        """
        with self._one_at_a_time:
            for _ in self._helpers:
                self._tasks.put(work)
            try:
                work()
            finally:
                errors = [self._results.get() for _ in self._helpers]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """End the threads. Closing twice is a no-op; a closed team is the calling thread alone."""
        with self._one_at_a_time:
            for _ in self._helpers:
                self._tasks.put(None)
            for helper in self._helpers:
                helper.join()
            self._helpers, self.size = [], 1

    def _help(self) -> None:
        while (work := self._tasks.get()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised by run() on the calling thread
                self._results.put(error)
            else:
                self._results.put(None)
