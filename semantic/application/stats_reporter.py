"""Tells others what an engine is doing, while it does something."""

import threading
from collections.abc import Callable

from semantic.application.ports.clock import Clock
from semantic.application.ports.live_board import EngineSnapshot, LiveBoard
from semantic.application.ports.telemetry import Telemetry

_CLOSE_S = 2.0
"""A disk that hangs must not keep an engine from being closed."""


class StatsReporter:
    """Puts snapshots on the board about once a second, and a line into the log every ``log_every_s``.

    It has a thread of its own, so that neither a slow disk nor sorting latencies holds a step back, and sleeps while
    the engine has nothing to do: :meth:`stir` wakes it. ``board=None`` publishes nothing, ``log_every_s=0`` logs
    nothing; with neither there is no thread.
    """

    def __init__(
        self,
        board: LiveBoard | None,
        telemetry: Telemetry,
        clock: Clock,
        *,
        log_every_s: float = 0.0,
        every_s: float = 1.0,
    ) -> None:
        self._board, self._telemetry, self._clock = board, telemetry, clock
        self._log_every_s, self._every_s = log_every_s, every_s
        self._stirred, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._engine = ""
        self._has_failed = False
        self._quiet_since = clock.monotonic()

    def start(self, take: Callable[[], EngineSnapshot]) -> None:
        """Report what ``take`` gives from now on, until :meth:`close`."""
        self._take = take
        if self._board is not None or self._log_every_s:
            self._thread = threading.Thread(target=self._run, name="semantic-stats", daemon=True)
            self.stir()
            self._thread.start()

    def stir(self) -> None:
        """The engine has done something. Costs next to nothing; from any thread."""
        if not self._stirred.is_set():
            self._stirred.set()

    def report(self) -> bool:
        """Take a snapshot and tell it; returns whether there will be more to tell even if nobody stirs."""
        snapshot = self._take()
        self._engine = snapshot.engine
        stats = snapshot.stats
        if self._board is not None:
            self._attempt(lambda board: board.publish(snapshot))
        is_busy = stats.is_busy or stats.tokens_per_s > 0
        if is_busy and self._log_every_s and self._clock.monotonic() - self._quiet_since >= self._log_every_s:
            self._quiet_since = self._clock.monotonic()
            self._telemetry.event("engine.stats", **_line(snapshot))
        return is_busy

    def close(self) -> None:
        """Take the engine off the board and end the thread. Closing twice is a no-op."""
        self._over.set()
        self._stirred.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread, so it has to say that it ends
            self._telemetry.error("stats.reporter.failed", error=f"{type(error).__name__}: {error}")
        if self._engine:
            self._attempt(lambda board: board.withdraw(self._engine))

    def _serve(self) -> None:
        while True:
            self._stirred.wait()
            if self._over.is_set():
                return
            self._stirred.clear()
            if self.report():
                self._stirred.set()
            self._over.wait(self._every_s)

    def _attempt(self, action: Callable[[LiveBoard], None]) -> None:
        """Statistics that can't be published are worth one line, and never an engine."""
        if self._board is None:
            return
        try:
            action(self._board)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                self._telemetry.warning("stats.not.published", error=f"{type(error).__name__}: {error}")


def _line(snapshot: EngineSnapshot) -> dict[str, object]:
    """What a person reads in a log, flat."""
    stats = snapshot.stats
    hits, tiers = stats.hit_rates, stats.tier_bytes
    return {
        "engine": snapshot.engine,
        "running": stats.running,
        "waiting": stats.waiting,
        "preempted": stats.preempted,
        "finished_requests": stats.finished_requests,
        "tokens_per_s": round(stats.tokens_per_s, 1),
        "ttft_p50_s": None if stats.ttft_s is None else round(stats.ttft_s.p50, 4),
        "ttft_p99_s": None if stats.ttft_s is None else round(stats.ttft_s.p99, 4),
        "token_gap_p50_s": None if stats.token_gap_s is None else round(stats.token_gap_s.p50, 4),
        "token_gap_p99_s": None if stats.token_gap_s is None else round(stats.token_gap_s.p99, 4),
        "hits_memory": None if hits is None else round(hits.memory, 3),
        "hits_store": None if hits is None else round(hits.store, 3),
        "live_bytes": tiers.live,
        "resident_bytes": tiers.resident,
        "free_bytes": stats.pool_bytes_free,
        "store_bytes": tiers.store,
        "pending_bytes": tiers.pending_writes,
        "evicted_blocks": stats.evicted_blocks,
    }
