"""Sources are asked in order; an unknown name is answered with near ones."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from semantic.adapters.model_sources.catalogue import FileSource, ModelCatalogue
from semantic.application.ports.model_source import LoadedModel
from semantic.domain.errors import ModelNotFoundError


class Named(FileSource):
    """Knows its names, and loads nothing for each."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def recognises(self, name: str) -> bool:
        return name in self._names

    def known_names(self) -> Sequence[str]:
        return self._names

    def load(self, name: str) -> LoadedModel:
        return LoadedModel(name, self, None)

    def provide(self, name: str) -> Path:
        return Path("/models") / name

    def is_fetched(self, name: str) -> bool:
        return name == "fetched"


def test_the_first_source_that_recognises_a_name_loads_it() -> None:
    first, second = Named("a", "b"), Named("b", "c")
    catalogue = ModelCatalogue([first, second])
    assert [catalogue.load(name).model for name in "abc"] == [first, first, second]
    assert catalogue.known_names() == ["a", "b", "b", "c"]
    assert catalogue.provide("c") == Path("/models/c")


def test_a_misspelt_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model called 'SmolLM-135m'.*did you mean smollm2-135m\?"):
        ModelCatalogue([Named("smollm2-135m", "gemma")]).load("SmolLM-135m")


def test_a_name_like_no_other_is_answered_with_all_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"known names: gemma, smollm2-135m\. A model is"):
        ModelCatalogue([Named("smollm2-135m", "gemma")]).load("xyzzy")


def test_a_misspelt_path_is_answered_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "llama-3.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"did you mean .*llama-3\.gguf"):
        ModelCatalogue([Named("gemma")]).load(str(tmp_path / "lama-3.gguf"))
