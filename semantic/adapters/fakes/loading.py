"""Loading without files: a source that knows one name, and a factory that prepares fake models."""

import hashlib
from collections.abc import Sequence
from typing import Any

import attrs
from attrs import define, field, frozen

from semantic.adapters.fakes.model import FakeModel
from semantic.adapters.fakes.tokenizer import FakeTokenizer
from semantic.application.engine_options import EngineOptions
from semantic.application.ports.model import ModelProfile
from semantic.application.ports.model_source import LoadedModel
from semantic.domain.errors import ModelNotFoundError

FAKE_FINGERPRINT = hashlib.sha256(b"fake").hexdigest()


@define
class FakeModelSource:
    """Loads a fake model by the name ``"fake"``; ``loaded`` counts how often. Its ``fingerprint`` can be changed."""

    loaded: int = 0
    fingerprint: str = FAKE_FINGERPRINT

    def recognises(self, name: str) -> bool:
        """Whether it is the one name."""
        return name == "fake"

    def known_names(self) -> Sequence[str]:
        """The one name."""
        return ("fake",)

    def load(self, name: str) -> LoadedModel:
        """A new fake model with a fake tokenizer."""
        if not self.recognises(name):
            raise ModelNotFoundError(f"no model is called {name!r}; known is 'fake'")
        self.loaded += 1
        return LoadedModel(name, FakeModel(), FakeTokenizer(), self.fingerprint)


@define
class FakeModelFactory:
    """Takes fake models as they are. ``options`` remembers what the engines were opened with.

    ``fingerprint`` is that of models which bring none.
    """

    options: list[EngineOptions] = field(factory=list)
    fingerprint: str = FAKE_FINGERPRINT

    def adopt(self, model: Any, tokenizer: Any) -> LoadedModel:
        """Take a (FakeModel, tokenizer) pair."""
        return LoadedModel(model.profile.name, model, tokenizer)

    def prepare(self, loaded: LoadedModel, options: EngineOptions) -> "FakePreparedModel":
        """Nothing to look at: one lane serves it."""
        self.options.append(options)
        if options.prefill_step_size is not None:
            loaded.model.with_prefill_step_size(options.prefill_step_size)
        fingerprint = loaded.fingerprint or self.fingerprint
        loaded.model.profile = attrs.evolve(loaded.model.profile, fingerprint=fingerprint, adapters=loaded.adapters)
        return FakePreparedModel(loaded.model)


@frozen
class FakePreparedModel:
    """A fake model, ready as it is."""

    model: FakeModel

    @property
    def profile(self) -> ModelProfile:
        """The model's."""
        return self.model.profile

    def build(self, num_blocks: int) -> FakeModel:
        """The model itself; it makes blocks as they are attached."""
        return self.model
