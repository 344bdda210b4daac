"""A folder with an adapter, as mlx_lm.lora writes it: adapter_config.json and adapters.safetensors."""

import hashlib
import json
from pathlib import Path
from typing import Any

from attrs import frozen

from semantic.adapters.model_sources.hashed_files import HashedFiles
from semantic.adapters.model_sources.safetensors_check import check_safetensors
from semantic.domain.errors import AdapterError, ModelDamagedError

_KINDS = ("lora", "dora", "full")
_NEEDED = ("rank", "scale", "dropout")


@frozen
class AdapterFolder:
    """Checked as far as it can be without a model. ``config``: what mlx_lm reads of adapter_config.json."""

    path: Path
    config: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "AdapterFolder":
        """Raises :class:`AdapterError`. Loads no weights."""
        config = _config(path)
        try:
            check_safetensors(_weights(path))
        except (OSError, ModelDamagedError) as exc:
            raise AdapterError(_missing(path) if isinstance(exc, FileNotFoundError) else str(exc)) from exc
        return cls(path, config)

    @property
    def weights(self) -> Path:
        """The file of tensors."""
        return _weights(self.path)

    @property
    def is_low_rank(self) -> bool:
        """Whether it adds parameters; otherwise it replaces some of the model's own."""
        return bool(self.config["fine_tune_type"] != "full")

    def fingerprint(self, hashed: HashedFiles) -> str:
        """SHA-256, in hex, of what a model becomes by it: neither the place nor how it was trained count."""
        facts = json.dumps(self.config, sort_keys=True)
        lines = "\n".join(("semantic adapter 1", facts, *hashed.sha256_of([self.weights])))
        return hashlib.sha256(lines.encode()).hexdigest()


def _weights(path: Path) -> Path:
    return path / "adapters.safetensors"


def _config(path: Path) -> dict[str, Any]:
    try:
        read = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise AdapterError(_missing(path)) from exc
    except (OSError, ValueError) as exc:
        raise AdapterError(f"{path / 'adapter_config.json'} cannot be read ({exc})") from exc
    problem = _problem(read)
    if problem:
        raise AdapterError(f"{path / 'adapter_config.json'} {problem}; mlx_lm.lora writes such a file")
    kind = read.get("fine_tune_type", "lora")
    how = {} if kind == "full" else {"num_layers": read["num_layers"], "lora_parameters": read["lora_parameters"]}
    return {"fine_tune_type": kind, **how}


def _problem(config: Any) -> str:
    """What mlx_lm would trip over, or nothing."""
    if not isinstance(config, dict):
        return "holds no settings"
    kind = config.get("fine_tune_type", "lora")
    if kind not in _KINDS:
        return f"says fine_tune_type {kind!r}, which is none of {', '.join(_KINDS)}"
    if kind == "full":
        return ""
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict) or not isinstance(config.get("num_layers"), int):
        return "lacks num_layers or lora_parameters: this is no adapter of mlx_lm's"
    lacking = [name for name in _NEEDED if not isinstance(parameters.get(name), int | float)]
    return f"lacks {', '.join(lacking)} in lora_parameters" if lacking else ""


def _missing(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder {path} for an adapter; name the one that mlx_lm.lora wrote"
    if (path / "adapter_model.safetensors").exists():
        return f"{path} holds an adapter as PEFT saves it; convert it to mlx_lm's, or fuse it into its model"
    return f"{path} lacks adapter_config.json or adapters.safetensors; name the folder that mlx_lm.lora wrote"
