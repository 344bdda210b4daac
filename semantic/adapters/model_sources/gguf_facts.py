"""What the metadata of a GGUF file says of its model."""

import math
from typing import Any

from semantic.adapters.model_sources.gguf_file import GgufFile
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

_SCALINGS = ("linear", "yarn")


class Facts:
    """Metadata under the architecture's own prefix.

    Raises ``ModelDamagedError`` for what should be there and is not, ``UnsupportedArchitectureError`` for what mlx_lm's
    model of this architecture cannot express.
    """

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self._file, self._prefix = file, architecture

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``; without a default it has to be there."""
        value = self._file.metadata.get(f"{self._prefix}.{key}", default)
        if value is None:
            raise self._damaged(f"its metadata lacks {self._prefix}.{key}")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number that holds for every layer."""
        return int(self.real(key, default))

    def real(self, key: str, default: float | None = None) -> float:
        """Any number that holds for every layer."""
        value = self.get(key, default)
        if isinstance(value, list):
            raise self.unsupported(f"{self._prefix}.{key} differs from layer to layer")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self._damaged(f"{self._prefix}.{key} is {value!r}, no number")
        return float(value)

    def positive(self, key: str) -> int:
        """A number of things there must be at least one of."""
        if (value := self.number(key)) < 1:
            raise self._damaged(f"{self._prefix}.{key} is {value}")
        return value

    def rows(self, tensor: str) -> int:
        """The first axis of a tensor that has to be there."""
        if not self.has(tensor):
            raise self._damaged(f"it has no tensor {tensor}")
        return self._file.tensors[tensor].shape[0]

    def has(self, tensor: str) -> bool:
        """Whether the file holds this tensor."""
        return tensor in self._file.tensors

    def expect(self, key: str, value: float) -> None:
        """Refuse a file that says anything else than ``value``."""
        found = self.get(key, value)
        if found != value:
            raise self.unsupported(f"{self._prefix}.{key} is {found} where mlx_lm's {self._prefix} model needs {value}")

    def unsupported(self, what: str) -> UnsupportedArchitectureError:
        """An error that names the file."""
        return UnsupportedArchitectureError(f"{self._file.path}: {what}")

    def _damaged(self, what: str) -> ModelDamagedError:
        return ModelDamagedError(f"{self._file.path}: {what}; fetch it again")

    def decoder(self) -> dict[str, Any]:
        """The arguments that mlx_lm's models of all served families share, ``head_dim`` among them."""
        heads, hidden, layers = map(self.positive, ("attention.head_count", "embedding_length", "block_count"))
        self.rows(f"blk.{layers - 1}.attn_norm.weight")  # before as many layers are made
        head_dim = self.number("attention.key_length", hidden // heads)
        for key in ("attention.value_length", "rope.dimension_count"):
            self.expect(key, head_dim)
        self.expect("expert_count", 0)
        return {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "intermediate_size": self.number("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.number("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "rms_norm_eps": self.real("attention.layer_norm_rms_epsilon"),
            "vocab_size": self.rows("token_embd.weight"),
            "max_position_embeddings": self.number("context_length"),
            "rope_theta": self.real("rope.freq_base", 10_000.0),
            "rope_scaling": self._rope_scaling(),
        }

    def _rope_scaling(self) -> dict[str, float | str] | None:
        kind = self.get("rope.scaling.type", "none")
        if kind == "none":
            return None
        if kind not in _SCALINGS:
            raise self.unsupported(f"its RoPE scaling is {kind!r}; served are none, {', '.join(_SCALINGS)}")
        self.expect("rope.scaling.attn_factor", 1.0)
        scaling: dict[str, float | str] = {"type": kind, "factor": self.real("rope.scaling.factor")}
        if kind == "yarn":
            scaling["original_max_position_embeddings"] = self.number("rope.scaling.original_context_length")
            for beta, usual in (("beta_fast", 32.0), ("beta_slow", 1.0)):
                scaling[beta] = self.real(f"rope.scaling.yarn_{beta}", usual)
        return scaling
