"""The code in the how-tos runs, block after block, as a reader would paste it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

import semantic
from semantic.adapters.fakes import FakeModelFactory, FakeModelSource
from semantic.container import make_container, open_engine

HOW_TOS = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))


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


def run(how_to: Path) -> int:
    """Run a file's Python blocks in one namespace, and count them."""
    blocks = re.findall(r"^```python\n(.*?)^```", how_to.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(how_to), "exec"), names)
    return len(blocks)


@pytest.mark.parametrize("how_to", HOW_TOS, ids=lambda path: path.stem)
def test_a_how_to_runs_on_a_fake_model(how_to: Path, folder: Path, on_fakes: list[Any]) -> None:
    assert run(how_to) > 0
    assert on_fakes


@pytest.mark.model
@pytest.mark.parametrize("how_to", HOW_TOS, ids=lambda path: path.stem)
def test_a_how_to_runs_on_the_default_model(how_to: Path, folder: Path) -> None:
    assert run(how_to) > 0
