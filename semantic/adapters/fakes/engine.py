"""The whole engine on fakes, in one call."""

from typing import Any

from semantic.adapters.fakes.archive import MemoryArchive
from semantic.adapters.fakes.clock import FakeClock
from semantic.adapters.fakes.model import FakeModel
from semantic.adapters.fakes.telemetry import RecordingTelemetry
from semantic.adapters.fakes.tokenizer import FakeTokenizer
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.engine import Engine
from semantic.application.ports.agent_archive import AgentArchive
from semantic.application.ports.clock import Clock
from semantic.application.ports.model import LanguageModel
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.speculation import MakeDrafter
from semantic.application.stats_reporter import StatsReporter
from semantic.application.store_tier import StoreTier
from semantic.domain.services import BlockPool
from semantic.domain.services.drafter import PromptLookupDrafter


def fake_engine(
    *,
    model: LanguageModel | None = None,
    tokenizer: Tokenizer | None = None,
    blocks: int = 64,
    max_num_seqs: int = 16,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
    prefix_caching: bool = True,
    tier: StoreTier | None = None,
    archive: AgentArchive | None = None,
    prompt_lookup_num_tokens: int = 0,
    reporter: StatsReporter | None = None,
    **limits: Any,
) -> Engine:
    """An :class:`~semantic.application.engine.Engine` with a real scheduler, pool and thread around a fake model."""
    telemetry = telemetry or RecordingTelemetry()

    def build() -> BlockPoolBatchEngine:
        return fake_batch_engine(
            model=model,
            tokenizer=tokenizer,
            blocks=blocks,
            max_num_seqs=max_num_seqs,
            clock=clock,
            telemetry=telemetry,
            prefix_caching=prefix_caching,
            tier=tier,
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
            **limits,
        )

    return Engine(build, telemetry, archive or MemoryArchive(), reporter=reporter)


def fake_batch_engine(
    *,
    model: LanguageModel | None = None,
    tokenizer: Tokenizer | None = None,
    blocks: int = 64,
    max_num_seqs: int = 16,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
    prefix_caching: bool = True,
    tier: StoreTier | None = None,
    prompt_lookup_num_tokens: int = 0,
    make_drafter: MakeDrafter = PromptLookupDrafter,
    **limits: Any,
) -> BlockPoolBatchEngine:
    """The batch engine alone, to be stepped by hand. ``limits``: ``max_waiting``, ``max_token_gap_s``."""
    return BlockPoolBatchEngine(
        model=model or FakeModel(),
        tokenizer=tokenizer or FakeTokenizer(),
        pool=BlockPool(blocks),
        clock=clock or FakeClock(tick=0.001),
        telemetry=telemetry or RecordingTelemetry(),
        max_num_seqs=max_num_seqs,
        prefix_caching=prefix_caching,
        tier=tier,
        prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        make_drafter=make_drafter,
        random_seed=lambda: 0,
        **limits,
    )
