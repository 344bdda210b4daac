"""A store's tier without threads or files."""

from concurrent.futures import Executor

from semantic.adapters.fakes.clock import FakeClock
from semantic.adapters.fakes.executor import FakeExecutor
from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.fakes.telemetry import RecordingTelemetry
from semantic.application.ports.block_store import BlockStore
from semantic.application.ports.clock import Clock
from semantic.application.ports.telemetry import Telemetry
from semantic.application.store_tier import StoreTier


def fake_tier(
    store: BlockStore | None = None,
    *,
    writer: Executor | None = None,
    readers: Executor | None = None,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> StoreTier:
    """A tier over a store in memory, which writes and reads at once unless other executors are given.

    Keep the store to open another engine on it: that is a restart.
    """
    return StoreTier(
        store if store is not None else MemoryStore(),
        writer=writer or FakeExecutor(),
        readers=readers or FakeExecutor(),
        clock=clock or FakeClock(),
        telemetry=telemetry or RecordingTelemetry(),
    )
