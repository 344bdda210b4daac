"""All sources together: the first that recognises a name loads it."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from semantic.application.ports.model_source import LoadedModel, ModelSource
from semantic.domain.errors import ModelNotFoundError


class FileSource(ModelSource, Protocol):
    """A source whose models lie in files, as all of these do."""

    def provide(self, name: str) -> Path:
        """The model's file or folder, fetched first where needed. Loads nothing. Raises as ``load`` does."""

    def is_fetched(self, name: str) -> bool:
        """Whether ``provide`` would touch no network."""


class ModelCatalogue(FileSource):
    """Sources in order of preference. Itself a source, so that whoever needs one source can take them all."""

    def __init__(self, sources: Sequence[FileSource]) -> None:
        self._sources = tuple(sources)

    def recognises(self, name: str) -> bool:
        return any(source.recognises(name) for source in self._sources)

    def known_names(self) -> Sequence[str]:
        return [name for source in self._sources for name in source.known_names()]

    def source_of(self, name: str) -> FileSource:
        """The source that would load ``name``. Raises ``ModelNotFoundError`` that lists near names."""
        for source in self._sources:
            if source.recognises(name):
                return source
        raise ModelNotFoundError(self._explain(name))

    def load(self, name: str) -> LoadedModel:
        return self.source_of(name).load(name)

    def provide(self, name: str) -> Path:
        return self.source_of(name).provide(name)

    def is_fetched(self, name: str) -> bool:
        return self.source_of(name).is_fetched(name)

    def _explain(self, name: str) -> str:
        known = sorted(set(self.known_names()))
        near = _near(name, [*known, *_neighbours(Path(name))])
        hint = f"did you mean {' or '.join(near)}?" if near else f"known names: {', '.join(known)}."
        return (
            f"there is no model called {name!r}, and no folder or file at that path; {hint} "
            "A model is a known name, a folder saved by mlx-lm, a .gguf file, or a hub id such as org/name"
        )


def _near(name: str, candidates: Sequence[str]) -> list[str]:
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    return [by_lower[near] for near in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]


def _neighbours(path: Path) -> list[str]:
    """What lies beside a path that does not exist, so that a misspelt file name can be suggested."""
    try:
        return [str(path.parent / entry.name) for entry in path.parent.iterdir()][:1000]
    except OSError:
        return []
