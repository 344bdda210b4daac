"""The use case behind ``semantic.open``: from a model's name to a running engine."""

from collections.abc import Callable
from typing import Any

from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.application.engine import Engine
from semantic.application.engine_options import EngineOptions
from semantic.application.ports.agent_archive import AgentArchive
from semantic.application.ports.clock import Clock
from semantic.application.ports.model import ModelProfile
from semantic.application.ports.model_factory import ModelFactory
from semantic.application.ports.model_source import LoadedModel, ModelSource
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.stats_reporter import StatsReporter
from semantic.application.store_tier import StoreTier
from semantic.domain.errors import InvalidRequestError
from semantic.domain.services import BlockPool

_CONTEXT_WITHOUT_LIMIT = 1 << 20


class OpenEngine:
    """Loads, prepares, and starts an engine on a thread of its own.

    ``check_files`` refuses what a model's files say it can't do, before any weight is loaded. ``make_reporter`` gives
    each engine its own.
    """

    def __init__(
        self,
        *,
        source: ModelSource,
        factory: ModelFactory,
        make_tokenizer: Callable[[Any], Tokenizer],
        open_tier: Callable[[EngineOptions], StoreTier],
        archive: AgentArchive,
        clock: Clock,
        telemetry: Telemetry,
        check_files: Callable[[str, EngineOptions], None] = lambda name, options: None,
        make_reporter: Callable[[], StatsReporter | None] = lambda: None,
    ) -> None:
        self._make_reporter = make_reporter
        self._check_files = check_files
        self._source, self._factory, self._make_tokenizer = source, factory, make_tokenizer
        self._open_tier, self._archive = open_tier, archive
        self._clock, self._telemetry = clock, telemetry

    def load(self, model: Any) -> LoadedModel:
        """A name, a path, or a (model, tokenizer) pair as ``mlx_lm.load`` returns it."""
        if isinstance(model, LoadedModel):
            return model
        if isinstance(model, tuple):
            if len(model) != 2:
                raise InvalidRequestError(f"a tuple must be a (model, tokenizer) pair, this one has {len(model)} items")
            return self._factory.adopt(*model)
        return self._source.load(str(model))

    def open(self, model: Any, options: EngineOptions) -> Engine:
        """An engine that serves ``model``. Everything that can be refused is refused here."""
        if not isinstance(model, LoadedModel | tuple):
            self._check_files(str(model), options)
        loaded = self.load(model)
        tokenizer = None if loaded.tokenizer is None else self._make_tokenizer(loaded.tokenizer)
        prepared = self._factory.prepare(loaded, options)
        pool = make_pool(prepared.profile, options)
        self._telemetry.event(
            "engine.open",
            model=prepared.profile.name,
            cache_layout=prepared.profile.cache_layout,
            batching=prepared.profile.batching,
            blocks=pool.total_blocks,
            workspace_bytes=prepared.profile.workspace.fixed_bytes,
        )

        tier = None if options.store is None else self._open_tier(options)

        def build() -> BlockPoolBatchEngine:
            return BlockPoolBatchEngine(
                model=prepared.build(pool.total_blocks),
                tokenizer=tokenizer,
                pool=pool,
                clock=self._clock,
                telemetry=self._telemetry,
                max_num_seqs=options.max_num_seqs,
                max_waiting=options.max_waiting,
                max_token_gap_s=None if options.max_token_gap_ms is None else options.max_token_gap_ms / 1e3,
                prefix_caching=options.prefix_caching,
                tier=tier,
                prompt_lookup_num_tokens=options.prompt_lookup_num_tokens,
            )

        try:
            return Engine(build, self._telemetry, self._archive, reporter=self._make_reporter())
        except BaseException:
            if tier is not None:
                tier.close()
            raise


def make_pool(profile: ModelProfile, options: EngineOptions) -> BlockPool:
    """As many blocks as the budget holds beside what a step needs.

    A model without tokens to keep gets a full context for every sequence.
    """
    spec, context_length = profile.cache_spec, profile.context_length
    if spec.bytes_per_block == 0:
        return BlockPool(options.max_num_seqs * spec.blocks_for_tokens(context_length or _CONTEXT_WITHOUT_LIMIT))
    return BlockPool.from_budget(options.memory_bytes, spec, profile.workspace.fixed_bytes)
