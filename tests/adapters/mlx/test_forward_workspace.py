"""What is reserved for a step is more than a step takes."""

import mlx.core as mx
import pytest
from tiny_models import DENSE, Architecture, build

import semantic

pytestmark = pytest.mark.mlx

BIG_ENOUGH_TO_MEASURE = {**DENSE, "hidden_size": 256, "intermediate_size": 1024, "vocab_size": 4096}
ROWS, PROMPT_TOKENS = 4, 300


@pytest.mark.parametrize("layout", ["paged", "contiguous"])
@pytest.mark.parametrize("max_tokens", [1, 8])
def test_a_steps_peak_lies_within_the_workspace(layout: str, max_tokens: int) -> None:
    model = build(Architecture("llama", BIG_ENOUGH_TO_MEASURE))
    prompts = [[1 + (row * 31 + i) % 4000 for i in range(PROMPT_TOKENS)] for row in range(ROWS)]
    with semantic.open((model, None), memory="1GB", cache_layout=layout, max_num_seqs=ROWS) as engine:
        profile = engine.profile
        assert profile.cache_layout == layout
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        engine.batch_generate(prompts, max_tokens=max_tokens)
        taken = mx.get_peak_memory() - before + mx.get_cache_memory()
    live = 0 if layout == "paged" else ROWS * profile.cache_spec.bytes_for_tokens(PROMPT_TOKENS + max_tokens)
    workspace = profile.workspace
    assert taken - live <= workspace.fixed_bytes + workspace.bytes_for_context(PROMPT_TOKENS + max_tokens)
    assert workspace.fixed_bytes < 100_000_000


def test_the_limit_of_mlxs_cache_is_given_back_when_the_engine_closes() -> None:
    before = mx.set_cache_limit(123_456_789)
    try:
        with semantic.open((build(Architecture("llama", DENSE)), None), memory="100MB"):
            pass
        assert mx.set_cache_limit(123_456_789) == 123_456_789
    finally:
        mx.set_cache_limit(before)
