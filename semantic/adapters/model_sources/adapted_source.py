"""Models of any source with an adapter over them, as ``mlx_lm.load(..., adapter_path=...)`` puts it there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from semantic.adapters.mlx.materialise import materialise
from semantic.adapters.mlx.precision import to_compute_dtype
from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.adapter_folder import AdapterFolder
from semantic.adapters.model_sources.hashed_files import HashedFiles
from semantic.application.ports.model_source import LoadedModel, ModelSource
from semantic.domain.errors import AdapterError

_LOW_RANK = {"lora_a", "lora_b", "m"}
"""What mlx_lm's LoRA and DoRA layers add to those that they wrap."""


@frozen
class AdaptedSource(ModelSource):
    """Loads from ``source``, then puts the adapter of ``folder`` on, in the runtime's compute dtype."""

    source: ModelSource
    folder: Path
    prepare: Prepare
    hashed: HashedFiles = field(factory=HashedFiles)

    def recognises(self, name: str) -> bool:
        return self.source.recognises(name)

    def known_names(self) -> Sequence[str]:
        return self.source.known_names()

    def load(self, name: str) -> LoadedModel:
        """Raises :class:`AdapterError` too: for a damaged adapter before any of the model's weights are read."""
        adapter = AdapterFolder.read(self.folder.expanduser())
        loaded = self.source.load(name)
        model = _put_on(loaded, adapter)
        model = to_compute_dtype(model, self.prepare())
        materialise(model)
        adapters = (*loaded.adapters, adapter.fingerprint(self.hashed))
        from semantic.adapters.mlx.fingerprint import remember

        remember(model, loaded.tokenizer, loaded.fingerprint, adapters)
        return evolve(loaded, name=f"{loaded.name} with {adapter.path.name}", model=model, adapters=adapters)


def _put_on(loaded: LoadedModel, adapter: AdapterFolder) -> Any:
    from mlx_lm.utils import load_adapters

    try:
        model = load_adapters(loaded.model, str(adapter.path))
        lacking = _lacking(model, adapter)
    except Exception as exc:  # mlx_lm raises whatever comes up
        said = " ".join(str(exc).split()) or type(exc).__name__
        raise AdapterError(f"{adapter.path} cannot be put on {loaded.name}: {said[:500]}") from exc
    if lacking:
        raise AdapterError(
            f"{adapter.path} was made for another model than {loaded.name}: it lacks {lacking[0]} "
            f"and {len(lacking) - 1} more of the tensors that its configuration asks for"
        )
    model.eval()
    return model


def _lacking(model: Any, adapter: AdapterFolder) -> list[str]:
    """mlx_lm would leave these random: parts of an adapter for fewer layers, say."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    held: Any = mx.load(str(adapter.weights))
    added = (name for name, _ in tree_flatten(model.parameters()) if name.rsplit(".", 1)[-1] in _LOW_RANK)
    return sorted(name for name in added if name not in held) if adapter.is_low_rank else []
