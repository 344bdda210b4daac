"""Blocks at rest in few bits: whoever takes them up gets the same, at once, after a restart, from a file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from tiny_models import ARCHITECTURES, build

import semantic
from semantic.adapters.mlx.sampler import Sampler
from semantic.domain.errors import InvalidRequestError, InvalidSettingError, InvalidSpecError

pytestmark = pytest.mark.mlx

NEW_TOKENS = 6
AT_REST = ("8", "8/4", "4")


def ids(tokens: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 128, tokens)]


LANES: dict[str, tuple[str, dict[str, Any]]] = {
    "pages": ("llama", {}),
    "contiguous": ("llama", {"cache_layout": "contiguous"}),
    "windows and full attention": ("gemma3", {}),
    "recurrent and full attention": ("lfm2", {}),
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build(ARCHITECTURES["llama"])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray[Any, Any]]:
    """The logits that tokens were chosen from."""
    found: list[np.ndarray[Any, Any]] = []
    choose = Sampler.choose

    def recording(self: Sampler, logits: mx.array, rows: Any) -> list[int]:
        found.append(np.array(logits[0].astype(mx.float32)))
        return choose(self, logits, rows)

    monkeypatch.setattr(Sampler, "choose", recording)
    return found


def opened(model: nn.Module, at_rest: str, **options: Any) -> semantic.Engine:
    undrafted = {"prompt_lookup_num_tokens": 0}  # so that each forward is one token's
    return semantic.open((model, None), **{"memory": "64MB", "kv_at_rest": at_rest, **undrafted, **options})


def continued(engine: semantic.Engine, prompt: Sequence[int], seen: list[np.ndarray[Any, Any]]) -> Any:
    seen.clear()
    done = engine.generate([*prompt, *ids(20, seed=9)], max_tokens=NEW_TOKENS)
    return done, np.stack(seen)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("at_rest", AT_REST)
def test_hot_warm_and_imported_blocks_give_the_same_logits(
    at_rest: str, lane: str, tmp_path: Path, seen: list[np.ndarray[Any, Any]]
) -> None:
    architecture, options = LANES[lane]
    model = build(ARCHITECTURES[architecture])
    engine_with = partial(opened, model, at_rest, **options)
    prompt = ids(600)
    with engine_with(store=tmp_path / "kv") as engine:
        agent = engine.agent("alice")
        agent.generate(prompt, max_tokens=1)
        agent.export(tmp_path / "alice")
    with engine_with() as engine:
        engine.generate(prompt, max_tokens=1)
        hot, hot_logits = continued(engine, prompt, seen)
    with engine_with(store=tmp_path / "kv") as engine:
        warm, warm_logits = continued(engine, prompt, seen)
        assert engine.stats().cached_tokens_from_store == warm.usage.cached_tokens
    with engine_with() as engine:
        engine.import_agent(tmp_path / "alice")
        carried, carried_logits = continued(engine, prompt, seen)
    assert hot.usage.cached_tokens == warm.usage.cached_tokens == carried.usage.cached_tokens == 600
    assert hot.token_ids == warm.token_ids == carried.token_ids
    assert np.abs(hot_logits - warm_logits).max() < 1e-4
    assert np.abs(hot_logits - carried_logits).max() < 1e-4


@pytest.mark.parametrize(("at_rest", "most_off"), [("8", 0.02), ("8/4", 0.15), ("4", 0.2)])
def test_reused_context_is_off_by_what_was_rounded_and_not_by_nothing(
    at_rest: str, most_off: float, model: nn.Module, seen: list[np.ndarray[Any, Any]]
) -> None:
    prompt = ids(600)
    with opened(model, "exact") as engine:
        _, exact = continued(engine, prompt, seen)
    with opened(model, at_rest) as engine:
        engine.generate(prompt, max_tokens=1)
        _, rounded = continued(engine, prompt, seen)
    off = float(np.abs(exact - rounded)[0].max()) / float(np.ptp(exact[0]))
    assert 0 < off < most_off


@pytest.mark.parametrize(("at_rest", "least"), [("8", 3.4), ("4", 5.5)])
def test_a_budget_holds_as_many_more_contexts_as_they_take_fewer_bits(
    at_rest: str, least: float, model: nn.Module
) -> None:
    def kept(precision: str) -> int:
        with opened(model, precision, memory="4MB") as engine:
            for seed in range(100):
                engine.generate(ids(257, seed=seed), max_tokens=1)
            again = [engine.generate(ids(257, seed=seed), max_tokens=1).usage.cached_tokens for seed in (99, 98)]
            assert again == [256, 256]
            assert engine.stats().cache_bytes <= 4_000_000
            return engine.stats().pool_cached_blocks

    assert kept(at_rest) >= least * kept("exact")


def test_precisions_never_share_blocks(model: nn.Module, tmp_path: Path) -> None:
    prompt = ids(300)
    for at_rest in ("exact", *AT_REST):
        with opened(model, at_rest, store=tmp_path) as engine:
            assert engine.generate(prompt, max_tokens=1).usage.cached_tokens == 0


def test_what_cannot_be_quantised_at_rest_is_refused_by_name(model: nn.Module) -> None:
    with pytest.raises(InvalidSettingError, match="kv_at_rest"):
        opened(model, "3")
    with pytest.raises(InvalidRequestError, match='leave it at "exact"'):
        opened(model, "8", exactness="bit")
    with pytest.raises(InvalidRequestError, match="kv_bits out"):
        opened(model, "8", kv_bits=8)
    with pytest.raises(InvalidSpecError, match="keeps none"):
        opened(build(ARCHITECTURES["mamba"]), "8")
