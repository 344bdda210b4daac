"""A board in memory."""

from collections.abc import Sequence

from semantic.application.ports.live_board import EngineSnapshot


class MemoryBoard:
    """Keeps the newest snapshot of each engine. ``fails = True`` makes every write an ``OSError``; ``published``
    counts the writes.
    """

    def __init__(self) -> None:
        self._snapshots: dict[str, EngineSnapshot] = {}
        self.fails = False
        self.published = 0

    def publish(self, snapshot: EngineSnapshot) -> None:
        """Keep a snapshot."""
        if self.fails:
            raise OSError("the fake board was told to fail")
        self.published += 1
        self._snapshots[snapshot.engine] = snapshot

    def withdraw(self, engine: str) -> None:
        """Drop an engine's."""
        if self.fails:
            raise OSError("the fake board was told to fail")
        self._snapshots.pop(engine, None)

    def snapshots(self) -> Sequence[EngineSnapshot]:
        """Those there are, by name."""
        return [self._snapshots[engine] for engine in sorted(self._snapshots)]
