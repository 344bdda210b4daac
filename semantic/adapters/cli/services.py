"""What the commands call. The container fills this in; a test fills it with fakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from semantic.adapters.mlx.runtime import Runtime
from semantic.adapters.model_sources.catalogue import ModelCatalogue
from semantic.application.ports.block_store import BlockStore
from semantic.application.ports.experiments import ProgressListener
from semantic.application.ports.live_board import LiveBoard
from semantic.application.run_experiment import RunExperiment
from semantic.settings import Settings


class LoadSettings(Protocol):
    """Flags over environment over files; flags that are None count as not given."""

    def __call__(self, **flags: Any) -> Settings: ...


class MakeExperiments(Protocol):
    """The use case on the settings' model, with the experiments of ``folder`` and its results in ``data``."""

    def __call__(
        self, settings: Settings, *, folder: Path, data: Path, listener: ProgressListener | None
    ) -> RunExperiment: ...


@frozen
class Services:
    """One callable for each thing a command can want; nothing is built before it is called.

    ``open_engine(settings)`` gives the engine, a context manager; ``open_store(settings)`` the store of the settings,
    which whoever asks for it closes.
    """

    settings: LoadSettings
    prepare: Callable[[Settings], Runtime]
    catalogue: Callable[[Settings], ModelCatalogue]
    open_engine: Callable[[Settings], Any]
    experiments: MakeExperiments
    open_store: Callable[[Settings], BlockStore]
    live_board: Callable[[Settings], LiveBoard]
