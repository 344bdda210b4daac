"""The composition root: the only file that names ports and adapters together.

Override a provider to swap an adapter, in a test or in a program of your own::

    container = Container()
    container.model_source.override(providers.Object(MySource()))
    with open_engine(container, "my-model") as engine:
        ...

Adapters that import MLX are imported when first needed: the runtime has to load the BLAS before that.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from dependency_injector import containers, providers

from semantic.adapters.clock import SystemClock
from semantic.adapters.storage.agent_archive import FileArchive
from semantic.adapters.telemetry import NullTelemetry, StructlogTelemetry
from semantic.application.engine import Engine
from semantic.application.engine_options import EngineOptions
from semantic.application.open_engine import OpenEngine
from semantic.application.ports.agent_archive import AgentArchive
from semantic.application.ports.clock import Clock
from semantic.application.ports.live_board import LiveBoard
from semantic.application.ports.memory_probe import MemoryProbe
from semantic.application.ports.model_factory import ModelFactory
from semantic.application.ports.model_source import ModelSource
from semantic.application.ports.telemetry import Telemetry
from semantic.application.ports.tokenizer import Tokenizer
from semantic.application.stats_reporter import StatsReporter
from semantic.application.store_tier import StoreTier
from semantic.domain.errors import InvalidSettingError
from semantic.domain.value_objects import parse_size
from semantic.settings import Settings, load_settings

if TYPE_CHECKING:
    from semantic.adapters.cli.services import Services
    from semantic.adapters.model_sources.catalogue import ModelCatalogue
    from semantic.application.ports.block_store import BlockStore
    from semantic.application.ports.experiments import ProgressListener
    from semantic.application.ports.quality import QualityProbe
    from semantic.application.run_experiment import RunExperiment

DEFAULT_MEMORY_SHARE = 4
"""Without a ``memory`` setting, caches may take one part in this many of the machine's memory."""


def _prepare_runtime(settings: Settings, telemetry: Telemetry) -> Callable[[], Any]:
    def prepare() -> Any:
        from semantic.adapters.mlx.runtime import prepare

        return prepare(
            blas=settings.blas,
            blas_threads=settings.blas_threads,
            compute_dtype=settings.compute_dtype,
            telemetry=telemetry,
        )

    return prepare


def _catalogue(settings: Settings, prepare: Callable[[], Any], telemetry: Telemetry) -> "ModelCatalogue":
    from semantic.adapters.model_sources.catalogue import ModelCatalogue
    from semantic.adapters.model_sources.fingerprint import Fingerprints
    from semantic.adapters.model_sources.folder import FolderSource
    from semantic.adapters.model_sources.gguf_source import GgufSource
    from semantic.adapters.model_sources.hub import HubSource
    from semantic.adapters.model_sources.wheel import WheelSource

    fingerprints = Fingerprints.kept_in(settings.model_cache)
    return ModelCatalogue(
        [
            WheelSource(prepare, settings.model_cache, telemetry),
            GgufSource(prepare, fingerprints),
            FolderSource(prepare, fingerprints),
            HubSource(prepare, fingerprints=fingerprints),
        ]
    )


def _model_source(settings: Settings, catalogue: "ModelCatalogue", prepare: Callable[[], Any]) -> ModelSource:
    """The catalogue, under the adapter that is set."""
    if settings.adapter_path is None:
        return catalogue
    from semantic.adapters.model_sources.adapted_source import AdaptedSource
    from semantic.adapters.model_sources.hashed_files import HashedFiles

    return AdaptedSource(catalogue, settings.adapter_path, prepare, HashedFiles(settings.model_cache))


def _model_factory(settings: Settings, prepare: Callable[[], Any], telemetry: Telemetry) -> ModelFactory:
    prepare()
    from semantic.adapters.mlx.cores import usable_cores
    from semantic.adapters.mlx.factory import MLXModelFactory

    return MLXModelFactory(prepare, telemetry, settings.attention_threads or usable_cores())


def _check_files(catalogue: "ModelCatalogue", prepare: Callable[[], Any]) -> Callable[[str, EngineOptions], None]:
    def check(name: str, options: EngineOptions) -> None:
        if options.kv_bits is None or not catalogue.recognises(name):
            return
        prepare()
        from semantic.adapters.mlx.skeleton import refuse_kv_bits

        refuse_kv_bits(catalogue.provide(name), options.kv_group_size)

    return check


def _make_tokenizer(tokenizer: Any) -> Tokenizer:
    from semantic.adapters.mlx.tokenizer import MLXTokenizer

    return MLXTokenizer(tokenizer)


def _memory_probe(prepare: Callable[[], Any]) -> MemoryProbe:
    prepare()
    from semantic.adapters.mlx.memory_probe import MLXMemoryProbe

    return MLXMemoryProbe()


def _open_store(settings: Settings, telemetry: Telemetry) -> "BlockStore":
    from semantic.adapters.storage.disk_store import DiskStore

    if settings.store is None:
        raise InvalidSettingError("no store is set: give --store PATH, or SEMANTIC_STORE")
    limit = None if settings.store_limit is None else parse_size(settings.store_limit)
    return DiskStore(settings.store.expanduser(), limit, telemetry)


def _open_tier(clock: Clock, telemetry: Telemetry) -> Callable[[EngineOptions], StoreTier]:
    def open_tier(options: EngineOptions) -> StoreTier:
        from semantic.adapters.storage.disk_store import DiskStore
        from semantic.adapters.storage.executors import make_readers, make_writer

        assert options.store is not None, "a tier needs a store"
        store = DiskStore(Path(options.store).expanduser(), options.store_bytes, telemetry)
        return StoreTier(store, writer=make_writer(), readers=make_readers(), clock=clock, telemetry=telemetry)

    return open_tier


def _live_board(settings: Settings) -> LiveBoard:
    from semantic.adapters.live.folder_board import FolderBoard

    return FolderBoard(settings.live_folder.expanduser())


def _make_reporter(
    settings: Settings, board: Callable[[], LiveBoard], telemetry: Telemetry, clock: Clock
) -> Callable[[], StatsReporter]:
    def make() -> StatsReporter:
        return StatsReporter(
            board() if settings.live_stats else None, telemetry, clock, log_every_s=settings.stats_log_interval
        )

    return make


def _telemetry(settings: Settings) -> Telemetry:
    return StructlogTelemetry(settings.log_level)


class Container(containers.DeclarativeContainer):
    """Every adapter, each behind its port."""

    settings = providers.Singleton(load_settings)
    clock = providers.Singleton(SystemClock)
    telemetry: providers.Provider[Telemetry] = providers.Singleton(_telemetry, settings)
    prepare_runtime = providers.Singleton(_prepare_runtime, settings, telemetry)
    memory_probe = providers.Singleton(_memory_probe, prepare_runtime)
    catalogue = providers.Singleton(_catalogue, settings, prepare_runtime, telemetry)
    model_source: providers.Provider[ModelSource] = providers.Singleton(
        _model_source, settings, catalogue, prepare_runtime
    )
    model_factory = providers.Singleton(_model_factory, settings, prepare_runtime, telemetry)
    make_tokenizer = providers.Object(_make_tokenizer)
    open_tier: providers.Provider[Callable[[EngineOptions], StoreTier]] = providers.Singleton(
        _open_tier, clock, telemetry
    )
    check_files: providers.Provider[Callable[[str, EngineOptions], None]] = providers.Singleton(
        _check_files, catalogue, prepare_runtime
    )
    archive: providers.Provider[AgentArchive] = providers.Singleton(FileArchive)
    live_board: providers.Provider[LiveBoard] = providers.Singleton(_live_board, settings)
    make_reporter: providers.Provider[Callable[[], StatsReporter]] = providers.Singleton(
        _make_reporter, settings, live_board.provider, telemetry, clock
    )
    opener = providers.Factory(
        OpenEngine,
        source=model_source,
        factory=model_factory,
        make_tokenizer=make_tokenizer,
        open_tier=open_tier,
        archive=archive,
        clock=clock,
        telemetry=telemetry,
        check_files=check_files,
        make_reporter=make_reporter,
    )


def engine_options(settings: Settings) -> EngineOptions:
    """The engine's options as the settings have them."""
    memory = settings.memory or psutil.virtual_memory().total // DEFAULT_MEMORY_SHARE
    return EngineOptions(
        memory_bytes=parse_size(memory),
        exactness=settings.exactness,
        cache_layout=settings.cache_layout,
        max_num_seqs=settings.max_num_seqs,
        max_waiting=settings.max_waiting,
        max_token_gap_ms=settings.max_token_gap_ms or None,
        kv_bits=settings.kv_bits,
        kv_group_size=settings.kv_group_size,
        prefill_step_size=settings.prefill_step_size,
        prefix_caching=settings.prefix_caching,
        kv_at_rest=settings.kv_at_rest,
        prompt_lookup_num_tokens=settings.prompt_lookup_num_tokens,
        store=None if settings.store is None else str(settings.store),
        store_bytes=None if settings.store_limit is None else parse_size(settings.store_limit),
    )


def make_container(*, quiet: bool = False, **flags: Any) -> Container:
    """A container whose settings are ``flags`` over environment over files; ``quiet`` drops all telemetry."""
    container = _container(load_settings(**flags))
    if quiet:
        container.telemetry.override(providers.Singleton(NullTelemetry))
    return container


def main() -> None:
    """The console script ``semantic``."""
    from semantic.adapters.cli.app import build_app

    build_app(cli_services())()


def cli_services() -> "Services":
    """What the commands call."""
    from semantic.adapters.cli.services import Services

    return Services(
        settings=load_settings,
        prepare=lambda settings: _container(settings).prepare_runtime()(),
        catalogue=lambda settings: _container(settings).catalogue(),
        open_engine=lambda settings: open_engine(_container(settings)),
        experiments=_experiments,
        open_store=lambda settings: _open_store(settings, _container(settings).telemetry()),
        live_board=lambda settings: _container(settings).live_board(),
    )


def _experiments(
    settings: Settings, *, folder: Path, data: Path, listener: "ProgressListener | None"
) -> "RunExperiment":
    from semantic.adapters.environment import SystemEnvironment
    from semantic.adapters.mlx.engine_process import ChildEngines
    from semantic.adapters.mlx.reference import SubprocessReference
    from semantic.adapters.reports.folder_catalogue import FolderCatalogue
    from semantic.adapters.reports.folder_reports import FolderReports
    from semantic.adapters.reports.json_store import JsonResultsStore
    from semantic.adapters.reports.review_files import FolderReviews
    from semantic.adapters.storage.experiment_stores import ExperimentStores
    from semantic.application.engine_factory import EnginesOnOneModel
    from semantic.application.run_experiment import RunExperiment

    container = _container(settings)
    engines = EnginesOnOneModel(container.opener(), settings.model)

    def quality_probe() -> "QualityProbe":
        factory = container.model_factory()
        from semantic.adapters.mlx.quality_probe import MLXQualityProbe

        return MLXQualityProbe(factory, engines.loaded, container.make_tokenizer(), settings.kv_group_size)

    return RunExperiment(
        model=settings.model,
        catalogue=FolderCatalogue(folder),
        engine_factory=engines,
        engine_processes=ChildEngines(settings.model),
        stores=ExperimentStores(),
        reference_factory=lambda: SubprocessReference(settings.model),
        quality_probes=quality_probe,
        clock=container.clock(),
        memory_probe=container.memory_probe(),
        results_store=JsonResultsStore(data),
        report_writer=FolderReports(data, folder.parent / "docs" / "adr"),
        reviews=FolderReviews(data),
        environment_probe=SystemEnvironment(folder, container.prepare_runtime(), container.catalogue()),
        telemetry=container.telemetry(),
        listener=listener,
    )


def _container(settings: Settings) -> Container:
    container = Container()
    container.settings.override(providers.Object(settings))
    return container


def settle(model: Any) -> None:
    """Compute, on this thread, what a model's arrays still have to: after that, another thread may open it."""
    from semantic.adapters.mlx.materialise import materialise

    materialise(model)


def open_engine(container: Container, model: Any = None) -> Engine:
    """Open an engine with what the container provides; ``model=None`` takes the settings' one."""
    settings = container.settings()
    return container.opener().open(settings.model if model is None else model, engine_options(settings))
