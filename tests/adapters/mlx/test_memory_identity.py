"""What was computed before gives what computing it again would give, whatever a model's layers keep.

Tiny models with random weights; stock mlx_lm, run without any cache of ours, is the reference.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from tiny_models import ARCHITECTURES, build

import semantic
from semantic.adapters.mlx.sampler import Sampler

pytestmark = pytest.mark.mlx

NEW_TOKENS = 6
CHUNK = 256

LANES: dict[str, tuple[str, dict[str, Any]]] = {
    "pages": ("llama", {}),
    "contiguous": ("llama", {"cache_layout": "contiguous"}),
    "bit": ("llama", {"exactness": "bit"}),
    "sliding windows": ("sliding llama", {}),
    "windows and full attention": ("gemma3", {}),
    "recurrent and full attention": ("lfm2", {}),
    "recurrent only": ("mamba", {}),
    "latent": ("deepseek_v2", {}),
    "learned positions read from the offset": ("gpt_bigcode", {}),
}


def ids(tokens: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 128, tokens)]


def cold(model: nn.Module, prompt: Sequence[int], max_tokens: int = NEW_TOKENS) -> tuple[int, ...]:
    steps = generate_step(mx.array(prompt), model, max_tokens=max_tokens, prefill_step_size=CHUNK)
    return tuple(token for token, _ in steps)


def most(name: str) -> int:
    return 220 if name == "learned positions read from the offset" else 700


@pytest.fixture(scope="module", params=LANES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return build(ARCHITECTURES[LANES[name][0]])


def opened(model: nn.Module, name: str, **options: Any) -> semantic.Engine:
    given = {"memory": "64MB", "prefill_step_size": CHUNK, **LANES[name][1], **options}
    return semantic.open((model, None), **given)


def reuses_tails(name: str) -> bool:
    return name not in ("bit", "learned positions read from the offset")


def test_a_context_that_grows_turn_by_turn_is_continued_as_a_cold_run_would(name: str, model: nn.Module) -> None:
    with opened(model, name) as engine:
        context, known = ids(most(name) // 2), 0
        for turn in range(3):
            done = engine.generate(context, max_tokens=NEW_TOKENS)
            assert done.token_ids == cold(model, context)
            if reuses_tails(name):
                assert done.usage.cached_tokens == known
            known = len(context) + NEW_TOKENS - 1  # all but the token that was drawn and never fed
            context = [*context, *done.token_ids, *ids(24, seed=turn)]


def test_a_prefix_of_sixty_tokens_is_shared_by_ten_at_once(name: str, model: nn.Module) -> None:
    head = ids(60)
    prompts = [[*head, *ids(20, seed=number)] for number in range(1, 11)]
    with opened(model, name) as engine:
        done = engine.batch_generate(prompts, max_tokens=NEW_TOKENS)
        assert [each.token_ids for each in done] == [cold(model, prompt) for prompt in prompts]
        if reuses_tails(name):
            assert sorted(each.usage.cached_tokens for each in done) == [0] + [60] * 9
            assert engine.stats().prefilled_tokens == 79 + 9 * 19


def test_the_same_prompt_again_decodes_at_once(name: str, model: nn.Module) -> None:
    prompt = ids(most(name) // 2)
    with opened(model, name) as engine:
        expected = engine.generate(prompt, max_tokens=NEW_TOKENS)
        again = engine.generate(prompt, max_tokens=NEW_TOKENS)
        assert again.token_ids == expected.token_ids == cold(model, prompt)
        if reuses_tails(name):
            assert again.usage.cached_tokens == len(prompt) - 1


def test_after_a_restart_the_context_comes_from_the_store(name: str, model: nn.Module, tmp_path: Path) -> None:
    prompt = ids(most(name))
    with opened(model, name, store=tmp_path) as engine:
        before = engine.generate(prompt, max_tokens=NEW_TOKENS)
    longer = [*prompt, *before.token_ids, *ids(9, seed=1)]
    with opened(model, name, store=tmp_path) as engine:
        after = engine.generate(longer, max_tokens=NEW_TOKENS)
        assert after.token_ids == cold(model, longer)
        if reuses_tails(name):
            assert after.usage.cached_tokens == len(prompt) + NEW_TOKENS - 1
            assert engine.stats().cached_tokens_from_store == after.usage.cached_tokens


def test_what_was_evicted_comes_back_from_the_store(name: str, model: nn.Module, tmp_path: Path) -> None:
    prompts = [ids(most(name) - 40, seed=seed) for seed in range(4)]
    with opened(model, name) as engine:
        spec, workspace = engine.profile.cache_spec, engine.profile.workspace
    if not spec.bytes_per_block:
        pytest.skip("a model without rows has no blocks to run out of")
    computing = workspace.fixed_bytes + workspace.bytes_for_context(most(name))
    room = spec.live_bytes_at(most(name)) * 2 + spec.bytes_per_block  # for two contexts of the four, and a little
    with opened(model, name, store=tmp_path, memory=str(computing + room)) as engine:
        for _ in range(2):
            done = [engine.generate(prompt, max_tokens=NEW_TOKENS) for prompt in prompts]
            assert [each.token_ids for each in done] == [cold(model, prompt) for prompt in prompts]
        if reuses_tails(name):
            assert engine.stats().evicted_blocks > 0
            assert engine.stats().cached_tokens_from_store > 0


def test_forks_part_and_neither_disturbs_the_other(name: str, model: nn.Module) -> None:
    with opened(model, name) as engine:
        alice = engine.agent("alice")
        alice.generate(ids(most(name) // 3), max_tokens=NEW_TOKENS)
        bob = alice.fork("bob")
        for agent, seed in ((alice, 1), (bob, 2), (alice, 3), (bob, 4)):
            context = [*agent.tokens, *ids(10, seed=seed)]
            done = agent.generate(ids(10, seed=seed), max_tokens=NEW_TOKENS)
            assert done.token_ids == cold(model, context)


def test_logits_behind_a_reused_prefix_are_those_of_a_cold_run(
    name: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong window, state or position can hide behind equal tokens; it can't hide in all logits."""
    seen: list[np.ndarray[Any, Any]] = []
    choose = Sampler.choose

    def recording(self: Sampler, logits: mx.array, rows: Any) -> list[int]:
        seen.append(np.array(logits[0].astype(mx.float32)))
        return choose(self, logits, rows)

    prompt = ids(most(name) // 2)
    undrafted = {"prompt_lookup_num_tokens": 0}  # so that each forward is one token's
    with opened(model, name, prefix_caching=False, **undrafted) as engine, monkeypatch.context() as patch:
        patch.setattr(Sampler, "choose", recording)
        engine.generate([*prompt, *ids(30, seed=1)], max_tokens=NEW_TOKENS)
    expected, seen[:] = list(seen), []
    with opened(model, name, **undrafted) as engine, monkeypatch.context() as patch:
        engine.generate(prompt, max_tokens=1)
        patch.setattr(Sampler, "choose", recording)
        engine.generate([*prompt, *ids(30, seed=1)], max_tokens=NEW_TOKENS)
    spread = max(float(np.ptp(logits)) for logits in expected)
    off = max(float(np.abs(a - b).max()) for a, b in zip(expected, seen, strict=True))
    assert off <= (0 if name == "bit" else 1e-4 * spread)


def test_an_agent_rewinds_to_a_checkpoint_and_goes_another_way(name: str, model: nn.Module) -> None:
    with opened(model, name) as engine:
        agent = engine.agent("alice")
        agent.generate(ids(most(name) // 3), max_tokens=NEW_TOKENS)
        agent.checkpoint("crossing")
        kept = agent.tokens
        agent.generate(ids(30, seed=1), max_tokens=NEW_TOKENS)
        agent.rewind("crossing")
        assert agent.tokens == kept
        done = agent.generate(ids(12, seed=2), max_tokens=NEW_TOKENS)
        assert done.token_ids == cold(model, [*kept, *ids(12, seed=2)])
        if reuses_tails(name):
            assert done.usage.cached_tokens >= len(kept) - 1


def test_an_exported_agent_goes_on_in_another_engine(name: str, model: nn.Module, tmp_path: Path) -> None:
    with opened(model, name) as engine:
        engine.agent("alice").generate(ids(most(name) // 2), max_tokens=NEW_TOKENS)
        engine.agent("alice").export(tmp_path / "alice.agent")
        context = [*engine.agent("alice").tokens, *ids(12, seed=2)]
    with opened(model, name, store=tmp_path / "kv") as engine:
        bob = engine.import_agent(tmp_path / "alice.agent", name="bob")
        done = bob.generate(ids(12, seed=2), max_tokens=NEW_TOKENS)
        assert done.token_ids == cold(model, context)
        if reuses_tails(name):
            assert done.usage.cached_tokens == len(context) - 13


def test_a_forgotten_agent_leaves_no_block_on_disk_and_none_in_memory(
    name: str, model: nn.Module, tmp_path: Path
) -> None:
    with opened(model, name, store=tmp_path) as engine:
        agent = engine.agent("alice")
        agent.generate(ids(most(name) // 2), max_tokens=NEW_TOKENS)
        agent.generate(ids(9, seed=1), max_tokens=NEW_TOKENS)
        engine.flush()
        assert list(tmp_path.rglob("*.safetensors")) or name in ("bit", "learned positions read from the offset")
        agent.forget()
        assert list(tmp_path.rglob("*.safetensors")) == []
        assert (engine.stats().pool_cached_blocks, engine.stats().pool_blocks_in_use) == (0, 0)


def test_a_damaged_block_is_computed_again(name: str, model: nn.Module, tmp_path: Path) -> None:
    prompt = ids(most(name) // 2 * 2 - 60)
    with opened(model, name, store=tmp_path) as engine:
        engine.generate(prompt, max_tokens=NEW_TOKENS)
    for file in tmp_path.rglob("*.safetensors"):
        content = bytearray(file.read_bytes())
        content[-100] ^= 1
        file.write_bytes(content)
    with opened(model, name, store=tmp_path, log_level="error") as engine:
        done = engine.generate(prompt, max_tokens=NEW_TOKENS)
        assert done.token_ids == cold(model, prompt)
        assert done.usage.cached_tokens == 0


def test_another_namespace_computes_the_same_text_again(name: str, model: nn.Module) -> None:
    prompt = ids(most(name) // 2)
    with opened(model, name) as engine:
        expected = engine.generate(prompt, max_tokens=NEW_TOKENS, namespace="one")
        again = engine.generate(prompt, max_tokens=NEW_TOKENS, namespace="two")
        assert again.token_ids == expected.token_ids
        assert again.usage.cached_tokens == 0
