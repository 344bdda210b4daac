"""How a loaded model becomes one that the engine can run."""

from typing import Any, Protocol

from semantic.application.engine_options import EngineOptions
from semantic.application.ports.model import LanguageModel, ModelProfile
from semantic.application.ports.model_source import LoadedModel


class PreparedModel(Protocol):
    """A model whose arrays are evaluated and whose lane is chosen, ready to be handed to the engine's thread."""

    @property
    def profile(self) -> ModelProfile:
        """The facts of this model under these options."""

    def build(self, num_blocks: int) -> LanguageModel:
        """Make the model with the physical memory of ``num_blocks`` blocks. Called on the thread that will own it."""


class ModelFactory(Protocol):
    """Prepares models. Called on the opener's thread."""

    def prepare(self, loaded: LoadedModel, options: EngineOptions) -> PreparedModel:
        """Look at the model's caches and choose how to run it."""

    def adopt(self, model: Any, tokenizer: Any) -> LoadedModel:
        """Take a (model, tokenizer) pair as ``mlx_lm.load`` returns it."""
