"""Where engines of this machine tell what they are doing, for ``semantic top`` and whoever else looks."""

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from semantic.application.engine_stats import EngineStats


@frozen(kw_only=True)
class EngineSnapshot:
    """An engine at one moment. ``engine`` names it on this machine; times are ISO 8601 in UTC."""

    engine: str
    pid: int
    model: str
    opened_at: str
    taken_at: str
    stats: EngineStats


class LiveBoard(Protocol):
    """One snapshot for each engine that is open. Every verb may be called from any thread, and from any process."""

    def publish(self, snapshot: EngineSnapshot) -> None:
        """Put a snapshot in the place of the engine's last one. Raises ``OSError`` where that can't be done."""

    def withdraw(self, engine: str) -> None:
        """The engine is closed; one that is not there is none either. Raises ``OSError`` as above."""

    def snapshots(self) -> Sequence[EngineSnapshot]:
        """The newest one of each engine whose process is alive, by name. What can't be read is left out."""
