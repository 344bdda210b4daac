"""Local folders as mlx-lm saves them, and the hub, which is such a folder after a download."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.folder import FolderSource, load_folder
from semantic.adapters.model_sources.hub import HubSource
from semantic.domain.errors import (
    DownloadError,
    ModelDamagedError,
    ModelNotFoundError,
    UnsupportedArchitectureError,
)

pytestmark = pytest.mark.mlx

WriteFolder = Callable[..., Path]


def dtypes(model: Any) -> set[str]:
    from mlx.utils import tree_flatten

    return {str(value.dtype).removeprefix("mlx.core.") for _, value in tree_flatten(model.parameters())}


@pytest.mark.parametrize("saved", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "bits": 4}])
def test_on_cpu_every_folder_computes_in_float32(
    write_folder: WriteFolder, on_cpu: Prepare, saved: dict[str, Any]
) -> None:
    import mlx_lm

    loaded = load_folder(write_folder(**saved), "tiny", on_cpu)
    assert dtypes(loaded.model) == {"float32"}
    assert isinstance(mlx_lm.generate(loaded.model, loaded.tokenizer, "hello", max_tokens=3), str)


def test_quantised_weights_are_expanded_without_a_second_rounding(write_folder: WriteFolder, on_cpu: Prepare) -> None:
    import mlx.core as mx

    folder = write_folder(bits=4, dtype="float16")
    stored: Any = mx.load(str(folder / "model.safetensors"))
    name = "model.layers.0.mlp.up_proj"
    weight, scales, biases = (stored[f"{name}.{part}"] for part in ("weight", "scales", "biases"))
    exact = mx.dequantize(weight, scales.astype(mx.float32), biases.astype(mx.float32), group_size=32, bits=4)
    found = load_folder(folder, "tiny", on_cpu).model.layers[0].mlp.up_proj.weight
    np.testing.assert_array_equal(np.array(found), np.array(exact))


def test_on_a_gpu_a_folder_stays_as_it_was_saved(write_folder: WriteFolder, on_gpu: Prepare) -> None:
    import mlx.nn as nn

    loaded = load_folder(write_folder(bits=4, dtype="float16"), "tiny", on_gpu)
    assert isinstance(loaded.model.layers[0].mlp.up_proj, nn.QuantizedLinear)
    assert dtypes(loaded.model) == {"float16", "uint32"}


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def without_model_type(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 10)


def garbage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 512}))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (without_config, "no config.json"),
        (broken_config, "cannot be read"),
        (without_model_type, "names no model_type"),
        (without_weights, r"no model\*\.safetensors"),
        (truncated_weights, "cut short"),
        (garbage_weights, "no whole safetensors file"),
        (empty_weights, "no whole safetensors file"),
        (broken_tokenizer, "could not be loaded"),
        (other_shapes, "could not be loaded"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_folder_is_a_named_error(
    write_folder: WriteFolder, on_cpu: Prepare, damage: Callable[[Path], None], named: str
) -> None:
    folder = write_folder()
    damage(folder)
    with pytest.raises(ModelDamagedError, match=named):
        load_folder(folder, "tiny", on_cpu)


def test_a_model_type_that_mlx_lm_does_not_know_is_named(write_folder: WriteFolder, on_cpu: Prepare) -> None:
    folder = write_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "hal9000"}))
    with pytest.raises(UnsupportedArchitectureError, match="hal9000"):
        load_folder(folder, "tiny", on_cpu)


def test_a_folder_is_recognised_and_a_file_is_not(write_folder: WriteFolder, on_cpu: Prepare) -> None:
    folder = write_folder()
    assert FolderSource(on_cpu).recognises(str(folder))
    assert not FolderSource(on_cpu).recognises(str(folder / "config.json"))


def test_a_hub_id_loads_the_folder_that_the_hub_gives(write_folder: WriteFolder, on_cpu: Prepare) -> None:
    folder = write_folder()
    source = HubSource(on_cpu, lambda name: folder)
    assert source.recognises("org/name")
    assert [source.recognises(name) for name in ("name", "./name", "a/b/c", "org/file.gguf", str(folder))] == [
        False
    ] * 5
    loaded = source.load("org/name")
    assert (loaded.name, dtypes(loaded.model)) == ("org/name", {"float32"})


def test_without_a_network_the_hub_says_what_to_do(
    on_cpu: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="not in the local cache and HF_HUB_OFFLINE is set"):
        HubSource(on_cpu).load("some-org/no-such-model")


def test_a_repository_that_is_not_there_is_not_found(on_cpu: Prepare) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    def missing(name: str) -> Path:
        response: Any = SimpleNamespace(headers={}, request=None, status_code=404)
        raise RepositoryNotFoundError("404 Client Error", response=response)

    with pytest.raises(ModelNotFoundError, match="no public model of that id"):
        HubSource(on_cpu, missing).load("some-org/no-such-model")


def test_any_other_failure_of_the_hub_is_a_download_error(on_cpu: Prepare) -> None:
    def broken(name: str) -> Path:
        raise OSError("disk full")

    with pytest.raises(DownloadError, match=r"'org/name' could not be fetched \(OSError: disk full\)"):
        HubSource(on_cpu, broken).load("org/name")


def test_a_cache_of_a_models_own_making_is_refused_before_any_weight_is_loaded(
    write_folder: WriteFolder, on_cpu: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.models import llama

    from semantic.adapters.model_sources import folder

    class OwnCache:
        offset = 0

    def evaluated(model: Any) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(llama.Model, "make_cache", lambda self: [OwnCache()])
    monkeypatch.setattr(folder, "materialise", evaluated)
    with pytest.raises(UnsupportedArchitectureError, match="OwnCache, a kind of cache that is not served: KVCache, "):
        load_folder(write_folder(), "tiny", on_cpu)
