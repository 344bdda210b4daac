"""``semantic.open`` as the documents' code finds it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

import semantic
from semantic.adapters.fakes import FakeModelFactory, FakeModelSource
from semantic.container import make_container, open_engine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def on_fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """``semantic.open`` with a fake model behind it, and all else real. Yields the engines that were opened."""
    engines: list[Any] = []

    def open_on_fakes(model: str, **settings: Any) -> Any:
        container = make_container(quiet=True, **settings)
        container.model_source.override(providers.Object(FakeModelSource()))
        container.model_factory.override(providers.Object(FakeModelFactory()))
        container.make_tokenizer.override(providers.Object(lambda tokenizer: tokenizer))
        engines.append(open_engine(container, "fake"))
        return engines[-1]

    monkeypatch.setattr(semantic, "open", open_on_fakes)
    yield engines
    for engine in engines:
        engine.close()
