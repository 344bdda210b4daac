"""Small stateful fakes of every port, for your own tests: the whole engine runs without MLX in milliseconds.

>>> from semantic.adapters.fakes import fake_batch_engine, fake_engine
>>> with fake_engine() as engine:
...     engine.generate("abc", max_tokens=3).usage.completion_tokens
3
"""

from semantic.adapters.fakes.board import MemoryBoard
from semantic.adapters.fakes.clock import FakeClock
from semantic.adapters.fakes.engine import fake_batch_engine, fake_engine
from semantic.adapters.fakes.executor import FakeExecutor
from semantic.adapters.fakes.loading import FakeModelFactory, FakeModelSource
from semantic.adapters.fakes.model import FakeModel, fake_next_token
from semantic.adapters.fakes.store import MemoryStore
from semantic.adapters.fakes.telemetry import RecordingTelemetry
from semantic.adapters.fakes.tier import fake_tier
from semantic.adapters.fakes.tokenizer import FakeTokenizer

__all__ = [
    "FakeClock",
    "FakeExecutor",
    "FakeModel",
    "FakeModelFactory",
    "FakeModelSource",
    "FakeTokenizer",
    "MemoryBoard",
    "MemoryStore",
    "RecordingTelemetry",
    "fake_batch_engine",
    "fake_engine",
    "fake_next_token",
    "fake_tier",
]
