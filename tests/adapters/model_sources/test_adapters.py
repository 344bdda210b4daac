"""LoRA adapters: mlx_lm's own output, blocks and agents of their own, and errors that name what is wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import semantic
from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.adapted_source import AdaptedSource
from semantic.adapters.model_sources.adapter_folder import AdapterFolder
from semantic.adapters.model_sources.folder import FolderSource
from semantic.adapters.model_sources.gguf_source import GgufSource
from semantic.adapters.model_sources.hashed_files import HashedFiles
from semantic.domain.errors import AdapterError, AgentOfOtherModelError, InvalidRequestError

pytestmark = pytest.mark.mlx

WriteFolder = Callable[..., Path]
WriteAdapter = Callable[..., Path]
LORA: dict[str, Any] = {"rank": 4, "scale": 10.0, "dropout": 0.0}
PROMPT = [5 + index % 200 for index in range(300)]  # more than one block


@pytest.fixture
def write_adapter(tmp_path: Path) -> WriteAdapter:
    """``write_adapter(model_folder, "name")`` writes random low-rank weights as mlx_lm.lora does."""

    def write(
        model: Path, name: str = "adapter", *, seed: int = 0, kind: str = "lora", num_layers: int = 2, **lora: Any
    ) -> Path:
        import mlx.core as mx
        from mlx.utils import tree_flatten
        from mlx_lm import load
        from mlx_lm.tuner.utils import linear_to_lora_layers

        mx.random.seed(seed)
        trained = load(str(model))[0]
        parameters = {**LORA, **lora}
        trained.freeze()
        linear_to_lora_layers(trained, num_layers, parameters, use_dora=kind == "dora")
        weights = {
            name: array + 0.1 * mx.random.normal(array.shape)
            for name, array in tree_flatten(trained.trainable_parameters())
        }
        folder = tmp_path / name
        folder.mkdir()
        mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
        config = {"fine_tune_type": kind, "num_layers": num_layers, "lora_parameters": parameters, "model": "elsewhere"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return write


@pytest.fixture(autouse=True)
def _no_cache_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMANTIC_MODEL_CACHE", str(tmp_path / "models"))
    monkeypatch.delenv("SEMANTIC_ADAPTER_PATH", raising=False)


def tokens_of_mlx_lm(folder: Path, adapter: Path | None, prompt: list[int] = PROMPT) -> tuple[int, ...]:
    import mlx.core as mx
    from mlx_lm import load, stream_generate

    model, tokenizer = load(str(folder), adapter_path=None if adapter is None else str(adapter))
    answer = tuple(reply.token for reply in stream_generate(model, tokenizer, mx.array(prompt), max_tokens=12))
    return answer[:-1] if answer[-1] in tokenizer.eos_token_ids else answer


def tokens_of(folder: Path, adapter: Path | None, **options: Any) -> tuple[int, ...]:
    with semantic.open(str(folder), adapter_path=adapter, memory="256MB", **options) as engine:
        return engine.generate(PROMPT, max_tokens=12).token_ids


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_engine_says_what_mlx_lm_says_under_the_adapter(
    write_folder: WriteFolder, write_adapter: WriteAdapter, kind: str
) -> None:
    folder = write_folder()
    adapter = write_adapter(folder, kind=kind)
    expected = tokens_of_mlx_lm(folder, adapter)
    assert expected != tokens_of_mlx_lm(folder, None)
    assert tokens_of(folder, adapter) == tokens_of(folder, adapter, exactness="bit") == expected


def test_logits_are_mlx_lms_bit_for_bit_with_keys_and_fewer_layers(
    write_folder: WriteFolder, write_adapter: WriteAdapter
) -> None:
    import mlx.core as mx
    from mlx_lm import load

    folder = write_folder()
    adapter = write_adapter(folder, num_layers=1, keys=["self_attn.q_proj", "mlp.down_proj"])
    (ours, _), (theirs, _) = semantic.load(folder, adapter_path=adapter), load(str(folder), adapter_path=str(adapter))
    tokens = mx.array([PROMPT[:40]])
    assert bool(mx.array_equal(ours(tokens), theirs(tokens)))


def test_an_adapter_of_full_weights_replaces_them(write_folder: WriteFolder, write_adapter: WriteAdapter) -> None:
    import mlx.core as mx

    folder = write_folder()
    adapter = write_adapter(folder)
    name = "model.layers.1.mlp.up_proj.weight"
    mx.save_safetensors(str(adapter / "adapters.safetensors"), {name: mx.ones((256, 256))})
    (adapter / "adapter_config.json").write_text('{"fine_tune_type": "full"}')
    model = semantic.load(folder, adapter_path=adapter)[0]
    assert float(model.layers[1].mlp.up_proj.weight.sum()) == 256 * 256


def test_over_expanded_4_bit_weights_everything_computes_in_float32(
    write_folder: WriteFolder, write_adapter: WriteAdapter, on_cpu: Prepare
) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    folder = write_folder(bits=4, dtype="float16")
    loaded = AdaptedSource(FolderSource(on_cpu), write_adapter(folder), on_cpu).load(str(folder))
    assert {array.dtype for _, array in tree_flatten(loaded.model.parameters())} == {mx.float32}
    assert type(loaded.model.layers[0].self_attn.q_proj.linear).__name__ == "Linear"


def test_on_a_gpu_the_base_stays_quantised(
    write_folder: WriteFolder, write_adapter: WriteAdapter, on_gpu: Prepare
) -> None:
    folder = write_folder(bits=4, dtype="float16")
    loaded = AdaptedSource(FolderSource(on_gpu), write_adapter(folder), on_gpu).load(str(folder))
    assert type(loaded.model.layers[0].self_attn.q_proj.linear).__name__ == "QuantizedLinear"


def test_a_gguf_file_takes_the_adapter_of_the_folder_with_its_weights(
    write_folder: WriteFolder, write_gguf: Any, write_adapter: WriteAdapter, on_cpu: Prepare
) -> None:
    import mlx.core as mx

    folder = write_folder()
    adapter = write_adapter(folder)
    models = [
        AdaptedSource(source, adapter, on_cpu).load(str(path)).model
        for source, path in ((FolderSource(on_cpu), folder), (GgufSource(on_cpu), write_gguf().path))
    ]
    tokens = mx.array([PROMPT[:20]])
    assert bool(mx.array_equal(models[0](tokens), models[1](tokens)))


def test_no_block_is_shared_between_two_adapters_and_the_bare_model(
    write_folder: WriteFolder, write_adapter: WriteAdapter, tmp_path: Path
) -> None:
    folder = write_folder()
    adapters = [None, write_adapter(folder, "first", seed=1), write_adapter(folder, "second", seed=2)]
    expected = [tokens_of_mlx_lm(folder, adapter) for adapter in adapters]
    assert len(set(expected)) == 3
    store = tmp_path / "kv"
    for is_cached in (False, True):
        for adapter, tokens in zip(adapters, expected, strict=True):
            with semantic.open(str(folder), adapter_path=adapter, memory="64MB", store=store) as engine:
                done = engine.generate(PROMPT, max_tokens=12)
            assert (done.token_ids, done.usage.cached_tokens > 0) == (tokens, is_cached)


def test_a_pair_from_load_shares_its_blocks_with_the_name_under_the_adapter_and_with_nothing_else(
    write_folder: WriteFolder, write_adapter: WriteAdapter
) -> None:
    folder = write_folder()
    adapter = write_adapter(folder)
    pair = semantic.load(folder, adapter_path=adapter)
    with (
        semantic.open(pair, memory="64MB") as by_pair,
        semantic.open(str(folder), adapter_path=adapter, memory="64MB") as by_name,
        semantic.open(str(folder), memory="64MB") as bare,
    ):
        assert by_pair.profile.identity == by_name.profile.identity
        assert by_name.profile.fingerprint == bare.profile.fingerprint
        assert (len(by_name.profile.adapters), bare.profile.adapters) == (1, ())
    pair[0].layers[0].self_attn.q_proj.lora_b *= 2
    with semantic.open(pair, memory="64MB") as edited:
        assert edited.profile.fingerprint not in by_name.profile.identity
        assert edited.profile.adapters == ()


def test_an_agent_is_refused_under_another_adapter_with_both_named(
    write_folder: WriteFolder, write_adapter: WriteAdapter, tmp_path: Path
) -> None:
    folder = write_folder()
    first, second = write_adapter(folder, "first", seed=1), write_adapter(folder, "second", seed=2)
    where: dict[str, Any] = {"memory": "64MB", "store": tmp_path / "kv"}
    with semantic.open(str(folder), adapter_path=first, **where) as engine:
        engine.agent("alice").chat("hello", max_tokens=3)
        made_by = engine.profile.identity
    for adapter in (second, None):
        with semantic.open(str(folder), adapter_path=adapter, **where) as engine:
            with pytest.raises(AgentOfOtherModelError) as caught:
                engine.agent("alice")
            assert caught.value.theirs == f"{folder} with first ({made_by})"
            assert engine.profile.identity in caught.value.ours
    with semantic.open(str(folder), adapter_path=first, **where) as engine:
        assert len(engine.agent("alice").history) == 2


def test_the_setting_reaches_models_by_name_and_leaves_pairs_alone(
    write_folder: WriteFolder, write_adapter: WriteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder()
    bare = semantic.load(folder)
    monkeypatch.setenv("SEMANTIC_ADAPTER_PATH", str(write_adapter(folder)))
    with semantic.open(str(folder), memory="64MB") as by_name, semantic.open(bare, memory="64MB") as by_pair:
        assert (len(by_name.profile.adapters), by_pair.profile.adapters) == (1, ())
    with pytest.raises(InvalidRequestError, match=r"semantic\.load gives a pair with an adapter"):
        semantic.open(bare, adapter_path="anywhere")


def test_the_fingerprint_is_of_what_the_adapter_does(write_folder: WriteFolder, write_adapter: WriteAdapter) -> None:
    def fingerprint(path: Path) -> str:
        return AdapterFolder.read(path).fingerprint(HashedFiles())

    folder = write_folder()
    one, same = write_adapter(folder, "one"), write_adapter(folder, "same")
    config = json.loads((same / "adapter_config.json").read_text())
    (same / "adapter_config.json").write_text(json.dumps({**config, "learning_rate": 1e-5}))
    assert fingerprint(one) == fingerprint(same)
    others = [write_adapter(folder, "seed", seed=5), write_adapter(folder, "scale", scale=11.0)]
    assert len({fingerprint(path) for path in (one, *others)}) == 3


def absent(adapter: Path) -> None:
    adapter.rename(adapter.with_name("moved"))


def without_config(adapter: Path) -> None:
    (adapter / "adapter_config.json").unlink()


def broken_config(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"num_layers": ')


def alpha(adapter: Path) -> None:
    config = {"num_layers": 2, "lora_parameters": {"rank": 4, "alpha": 16, "dropout": 0.0}}
    (adapter / "adapter_config.json").write_text(json.dumps(config))


def of_peft(adapter: Path) -> None:
    (adapter / "adapters.safetensors").rename(adapter / "adapter_model.safetensors")


def peft_config(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')


def unknown_kind(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"fine_tune_type": "prefix"}')


def truncated(adapter: Path) -> None:
    weights = adapter / "adapters.safetensors"
    os.truncate(weights, weights.stat().st_size - 10)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (absent, "there is no folder"),
        (without_config, "lacks adapter_config.json or"),
        (broken_config, "cannot be read"),
        (alpha, "lacks scale in lora_parameters"),
        (of_peft, "as PEFT saves it"),
        (peft_config, r"no adapter of mlx_lm's"),
        (unknown_kind, "'prefix', which is none of"),
        (truncated, "cut short"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_adapter_is_named_before_a_weight_of_the_model_is_read(
    write_folder: WriteFolder, write_adapter: WriteAdapter, damage: Callable[[Path], None], named: str
) -> None:
    folder = write_folder()
    adapter = write_adapter(folder)
    damage(adapter)
    (folder / "model.safetensors").unlink()  # whoever wants to load the model first says so
    with pytest.raises(AdapterError, match=named):
        semantic.open(str(folder), adapter_path=adapter, memory="64MB")


def narrower(adapter: Path) -> None:
    _edit(adapter, lambda name, array: array[:-1] if name.endswith("lora_a") else array)


def for_one_layer_less(adapter: Path) -> None:
    _edit(adapter, lambda name, array: None if name.startswith("model.layers.1.") else array)


def for_another_layer_too(adapter: Path) -> None:
    weights = adapter / "adapters.safetensors"
    import mlx.core as mx

    held: Any = mx.load(str(weights))
    more = {name.replace("layers.1", "layers.7"): array for name, array in held.items()}
    mx.save_safetensors(str(weights), {**held, **more})


def _edit(adapter: Path, change: Callable[[str, Any], Any]) -> None:
    import mlx.core as mx

    held: Any = mx.load(str(adapter / "adapters.safetensors"))
    changed = {name: change(name, array) for name, array in held.items()}
    kept = {name: mx.array(array) for name, array in changed.items() if array is not None}
    mx.eval(kept)
    mx.save_safetensors(str(adapter / "adapters.safetensors"), kept)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (narrower, "does not match model parameter shape"),
        (for_one_layer_less, r"was made for another model .* it lacks model\.layers\.1\."),
        (for_another_layer_too, r"layers\.7\..* not an adapter parameter in the model"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_adapter_for_another_model_is_named(
    write_folder: WriteFolder, write_adapter: WriteAdapter, change: Callable[[Path], None], named: str
) -> None:
    folder = write_folder()
    adapter = write_adapter(folder)
    change(adapter)
    with pytest.raises(AdapterError, match=named):
        semantic.load(folder, adapter_path=adapter)
