"""What a model's files say of it, without loading it and without MLX."""

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from semantic.domain.errors import ModelDamagedError


@frozen
class ModelFacts:
    """None where the files do not say. ``weights``: the tensor types or the quantisation they are kept in."""

    path: Path
    nbytes: int
    architecture: str | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    context_length: int | None
    vocabulary: int | None
    weights: str | None


def describe(path: Path) -> ModelFacts:
    """The facts of a GGUF file or an mlx-lm folder. Raises ``ModelDamagedError``."""
    return _describe_folder(path) if path.is_dir() else _describe_gguf(path)


def _describe_gguf(path: Path) -> ModelFacts:
    from semantic.adapters.model_sources.gguf_file import GgufFile

    file = GgufFile.read(path)
    architecture = file.metadata.get("general.architecture")

    def number(key: str) -> int | None:
        value = file.metadata.get(f"{architecture}.{key}")
        return value if isinstance(value, int) else None

    return ModelFacts(
        path=path,
        nbytes=path.stat().st_size,
        architecture=architecture,
        layers=number("block_count"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv") or number("attention.head_count"),
        context_length=number("context_length"),
        vocabulary=len(file.metadata.get("tokenizer.ggml.tokens", ())) or None,
        weights=", ".join(sorted(kind.name for kind in file.kinds)),
    )


def _describe_folder(folder: Path) -> ModelFacts:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelDamagedError(f"{folder / 'config.json'} cannot be read ({exc}); fetch the model again") from exc
    text = config.get("text_config", config)
    quantised = config.get("quantization")
    return ModelFacts(
        path=folder,
        nbytes=sum(file.stat().st_size for file in folder.glob("model*.safetensors")),
        architecture=config.get("model_type"),
        layers=text.get("num_hidden_layers"),
        heads=text.get("num_attention_heads"),
        kv_heads=text.get("num_key_value_heads", text.get("num_attention_heads")),
        context_length=text.get("max_position_embeddings"),
        vocabulary=text.get("vocab_size"),
        weights=f"{quantised['bits']} bits, groups of {quantised['group_size']}"
        if quantised
        else text.get("torch_dtype"),
    )
