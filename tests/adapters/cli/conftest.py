"""The command line with fakes behind it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import frozen
from typer.testing import CliRunner

from semantic.adapters.cli.app import build_app
from semantic.adapters.cli.services import Services
from semantic.adapters.live.folder_board import FolderBoard
from semantic.adapters.mlx.blas import BlasReport
from semantic.adapters.mlx.runtime import Runtime
from semantic.adapters.model_sources.catalogue import FileSource, ModelCatalogue
from semantic.adapters.storage.disk_store import DiskStore
from semantic.application.ports.model_source import LoadedModel
from semantic.settings import load_settings

HEALTHY = Runtime("metal", "test chip", "model", True, "", BlasReport(False, "not needed here"), "0.32.4", "0.32.2")


class FolderOfModels(FileSource):
    """Two models, one of them fetched, as folders with a config.json."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._write("here")

    def recognises(self, name: str) -> bool:
        return name in self.known_names()

    def known_names(self) -> Sequence[str]:
        return ("here", "elsewhere")

    def is_fetched(self, name: str) -> bool:
        return (self._root / name).exists()

    def provide(self, name: str) -> Path:
        self._write(name)
        return self._root / name

    def load(self, name: str) -> LoadedModel:
        raise AssertionError("the command line loads no model to list, fetch or show one")

    def _write(self, name: str) -> None:
        (self._root / name).mkdir(exist_ok=True)
        config = {"model_type": "llama", "num_hidden_layers": 30, "num_attention_heads": 9, "vocab_size": 49152}
        (self._root / name / "config.json").write_text(json.dumps(config))


@frozen
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@frozen
class Cli:
    """``cli("model", "list")`` runs it; ``runtime`` is what preparing MLX gives, or the error it raises."""

    services: Services

    def __call__(self, *arguments: str) -> Outcome:
        result = CliRunner().invoke(build_app(self.services), list(arguments))
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def on(self, runtime: Runtime | Exception) -> "Cli":
        def prepare(settings: Any) -> Runtime:
            if isinstance(runtime, Exception):
                raise runtime
            return runtime

        return Cli(attrs.evolve(self.services, prepare=prepare))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMANTIC_MODEL_CACHE", str(tmp_path / "models"))
    monkeypatch.setenv("SEMANTIC_MODEL", "here")
    (tmp_path / "models").mkdir()
    catalogue = ModelCatalogue([FolderOfModels(tmp_path / "models")])

    def unused(settings: Any) -> Any:
        raise AssertionError("these commands open no engine and run no experiment")

    def open_store(settings: Any) -> DiskStore:
        return DiskStore(settings.store)

    return Cli(
        Services(
            settings=load_settings,
            prepare=lambda settings: HEALTHY,
            catalogue=lambda settings: catalogue,
            open_engine=unused,
            experiments=unused,
            open_store=open_store,
            live_board=lambda settings: FolderBoard(settings.live_folder),
        )
    )
