"""A local folder as mlx-lm saves it: config.json, model*.safetensors, tokenizer files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from semantic.adapters.mlx.materialise import materialise
from semantic.adapters.mlx.precision import to_compute_dtype
from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.catalogue import FileSource
from semantic.adapters.model_sources.fingerprint import Fingerprints, as_loaded
from semantic.adapters.model_sources.safetensors_check import check_safetensors
from semantic.application.ports.model_source import LoadedModel
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

_NOTHING_KEPT = Fingerprints()


@frozen
class FolderSource(FileSource):
    """Recognises an existing folder. The model comes from ``mlx_lm.load``, in the runtime's compute dtype."""

    prepare: Prepare
    fingerprints: Fingerprints = field(factory=Fingerprints)

    def recognises(self, name: str) -> bool:
        return Path(name).expanduser().is_dir()

    def known_names(self) -> Sequence[str]:
        return ()

    def load(self, name: str) -> LoadedModel:
        return load_folder(self.provide(name), name, self.prepare, self.fingerprints)

    def provide(self, name: str) -> Path:
        return Path(name).expanduser()

    def is_fetched(self, name: str) -> bool:
        return True


def load_folder(folder: Path, name: str, prepare: Prepare, fingerprints: Fingerprints = _NOTHING_KEPT) -> LoadedModel:
    """Load a folder under ``name``: files checked first, weights in the runtime's compute dtype, all
    evaluated, and the fingerprint remembered for the pair.
    """
    config = _config(folder)
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        raise ModelDamagedError(
            f"{folder} has no model*.safetensors; PyTorch weights are converted with mlx_lm.convert"
        )
    for file in weights:
        check_safetensors(file)
    runtime = prepare()  # before anything imports mlx
    from mlx_lm import load

    from semantic.adapters.mlx.cache_probe import refuse_unknown_caches
    from semantic.adapters.mlx.fingerprint import remember

    try:
        model, tokenizer = load(str(folder), lazy=True)
        refuse_unknown_caches(model)
        model = to_compute_dtype(model, runtime)
        materialise(model)
    except UnsupportedArchitectureError as exc:
        raise UnsupportedArchitectureError(f"{folder}: {exc}") from exc
    except Exception as exc:  # mlx_lm raises whatever comes up
        raise _translated(exc, folder, config) from exc
    fingerprint = as_loaded(fingerprints.of(folder), runtime)
    remember(model, tokenizer, fingerprint)
    return LoadedModel(name, model, tokenizer, fingerprint)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelDamagedError(f"{folder} has no config.json: it is no model folder as mlx-lm saves them") from exc
    except (OSError, ValueError) as exc:
        raise ModelDamagedError(f"{path} cannot be read ({exc}); fetch it again") from exc
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelDamagedError(f"{path} names no model_type; fetch it again")
    return config


def _translated(exc: Exception, folder: Path, config: dict[str, Any]) -> Exception:
    said = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
    if "not supported" in said or "trust_remote_code" in said:
        return UnsupportedArchitectureError(f"{folder}: mlx_lm does not serve {config['model_type']!r} ({said})")
    return ModelDamagedError(f"{folder} could not be loaded ({type(exc).__name__}: {said}); fetch it again")
