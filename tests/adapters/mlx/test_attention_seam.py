"""What is bound over mlx_lm's names while an engine is open, for whom it acts, and that it is given back."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import base, llama
from mlx_lm.models.cache import KVCache

from semantic.adapters.mlx.attention_seam import AttentionSeam, LayerCache
from semantic.adapters.mlx.host_swiglu import HostSwiglu

pytestmark = pytest.mark.mlx

STOCK = base.scaled_dot_product_attention


class Echo(LayerCache):
    """A cache that says what it was asked."""

    offset = 0

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, original: Any, **how: Any) -> Any:
        return original, how


@pytest.fixture
def model(tiny_llama: Callable[..., Any]) -> nn.Module:
    return tiny_llama()


def bound() -> Any:
    return llama.scaled_dot_product_attention


def test_the_name_is_bound_while_anyone_holds_it_and_the_last_one_restores_the_original(model: nn.Module) -> None:
    assert bound() is STOCK
    first = AttentionSeam(model)
    dispatcher = bound()
    assert dispatcher is not STOCK
    second = AttentionSeam(model)
    assert bound() is dispatcher
    first.release()
    assert bound() is dispatcher
    second.release()
    assert bound() is STOCK


def test_releasing_twice_takes_nothing_from_the_other_holder(model: nn.Module) -> None:
    first, second = AttentionSeam(model), AttentionSeam(model)
    first.release()
    first.release()
    assert bound() is not STOCK
    second.release()
    assert bound() is STOCK


def test_only_the_modules_of_the_models_own_layers_are_touched(model: nn.Module) -> None:
    seam = AttentionSeam(model)
    assert base.scaled_dot_product_attention is STOCK
    seam.release()


def test_a_cache_of_ours_attends_itself_and_is_told_how(model: nn.Module) -> None:
    q = mx.ones((1, 1, 1, 4))
    seam = AttentionSeam(model)
    original, how = bound()(q, q, q, cache=Echo(), scale=0.5, mask="causal")
    assert (original, how) == (STOCK, {"scale": 0.5, "mask": "causal"})
    _, positional = bound()(q, q, q, Echo(), 0.5, None)
    assert positional == {"scale": 0.5, "mask": None}
    seam.release()


@pytest.mark.parametrize("cache", [None, KVCache()], ids=["no cache", "mlx_lm's cache"])
def test_any_other_call_reaches_the_original_as_it_came(
    model: nn.Module, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def original(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "stock"

    monkeypatch.setattr(llama, "scaled_dot_product_attention", original)
    seam = AttentionSeam(model)
    assert bound()(1, 2, 3, cache, 0.5, mask="causal") == "stock"
    assert bound()(1, 2, 3, cache=cache, scale=0.5, mask=None) == "stock"
    assert calls == [
        ((1, 2, 3, cache, 0.5), {"mask": "causal"}),
        ((1, 2, 3), {"cache": cache, "scale": 0.5, "mask": None}),
    ]
    seam.release()
    assert bound() is original


def test_a_layer_whose_python_module_is_not_registered_is_passed_over(model: nn.Module) -> None:
    """As mlx_lm loads a model that brings its own file (``model_file`` in its config)."""
    model.extra = type("Extra", (nn.Module,), {"__module__": "custom_model_that_nobody_registered"})()
    seam = AttentionSeam(model)
    assert bound() is not STOCK
    seam.release()


def test_gates_are_bound_and_given_back_the_same_way_and_act_in_our_forwards_only(model: nn.Module) -> None:
    stock = llama.swiglu
    held = HostSwiglu(model)
    gate, x = mx.random.normal((1, 64, 96)), mx.random.normal((1, 64, 96))
    assert llama.swiglu is not stock
    assert mx.array_equal(llama.swiglu(gate, x), stock(gate, x))
    held.release()
    assert llama.swiglu is stock
