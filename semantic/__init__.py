"""A KV-cache block-pool batch engine on MLX: many agents, one local model, the output mlx_lm's.

>>> import semantic
>>> with semantic.open("smollm2-135m") as engine:  # doctest: +SKIP
...     print(engine.generate("The quick brown fox", max_tokens=50).text)

Importing this loads no MLX; opening an engine does.
"""

from os import PathLike
from typing import TYPE_CHECKING, Any

from semantic.domain.errors import InvalidRequestError, SemanticError
from semantic.domain.value_objects import (
    Completion,
    Delta,
    FinishReason,
    SamplingParams,
    Timings,
    TokenLogprobs,
    Usage,
)

if TYPE_CHECKING:
    from semantic.application.agent import Agent
    from semantic.application.async_agent import AsyncAgent
    from semantic.application.async_engine import AsyncEngine
    from semantic.application.async_opening import AsyncOpening
    from semantic.application.async_requests import AsyncRequest
    from semantic.application.batch_engine import BlockPoolBatchEngine
    from semantic.application.engine import Engine
    from semantic.application.engine_stats import EngineStats
    from semantic.application.requests import Request

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AsyncAgent",
    "AsyncEngine",
    "AsyncRequest",
    "BlockPoolBatchEngine",
    "Completion",
    "Delta",
    "Engine",
    "EngineStats",
    "FinishReason",
    "Request",
    "SamplingParams",
    "SemanticError",
    "Timings",
    "TokenLogprobs",
    "Usage",
    "aopen",
    "load",
    "open",
]

_LAZY = {
    "Agent": "semantic.application.agent",
    "AsyncAgent": "semantic.application.async_agent",
    "AsyncEngine": "semantic.application.async_engine",
    "AsyncRequest": "semantic.application.async_requests",
    "BlockPoolBatchEngine": "semantic.application.batch_engine",
    "EngineStats": "semantic.application.engine_stats",
    "Engine": "semantic.application.engine",
    "Request": "semantic.application.requests",
}


def open(
    model: Any = None,
    *,
    adapter_path: "str | PathLike[str] | None" = None,
    memory: str | int | None = None,
    store: "str | PathLike[str] | None" = None,
    exactness: str | None = None,
    max_num_seqs: int | None = None,
    max_waiting: int | None = None,
    max_token_gap_ms: float | None = None,
    prefill_step_size: int | None = None,
    cache_layout: str | None = None,
    kv_bits: int | str | None = None,
    kv_group_size: int | None = None,
    kv_at_rest: str | None = None,
    prompt_lookup_num_tokens: int | None = None,
    **settings: Any,
) -> "Engine":
    """Open an engine on ``model``: a known name, a folder, a GGUF file, a hub id, or a (model, tokenizer) pair.

    ``adapter_path``: the folder of a LoRA adapter, as ``mlx_lm.load`` takes it. What is remembered under one adapter is
    neither another's nor the bare model's. A pair brings its adapter with it.
    ``memory``: budget for KV blocks (``"1GB"`` is 10^9 bytes, ``"1GiB"`` 2^30); a quarter of the machine's by default.
    ``exactness``: ``"token"`` (mlx_lm's tokens, fast) or ``"bit"`` (mlx_lm's operations and shapes).
    ``max_num_seqs`` (16) requests run together, ``max_waiting`` (4096) wait, and one more is refused. While a prompt is
    read, those that run get their next token within ``max_token_gap_ms`` (500; 0 for most throughput).
    ``cache_layout``: ``"auto"``, ``"paged"`` or ``"contiguous"``. ``store``: a folder in which caches and agents
    outlive the process; one engine has it open at a time.
    ``kv_bits``: 8, ``"8/4"`` (keys / values) or 4 to quantise keys and values as they are computed, from the first
    token on, with a scale for every ``kv_group_size`` (64) elements of a head. The output is that of mlx_lm given a
    prompt cache of such caches, as far as that is settled: rounding to codes makes large what differs in the last bit.
    At 4 bits a change of 1e-6 in mlx_lm's own input moves its log-probabilities by 1, so there only
    ``exactness="bit"`` draws its very tokens.
    mlx_lm's own ``kv_bits`` quantises between prefill chunks, so that its output depends on their size.
    ``kv_at_rest``: ``"exact"``, or ``"8"``, ``"8/4"`` (keys / values) or ``"4"`` bits for blocks that nobody computes
    on, in memory and in the store.
    ``prompt_lookup_num_tokens``: most tokens (15) that a step verifies beside the one it computes, guessed from what
    the context said before; the output is the same, sooner where a model copies. 0 switches it off.
    Other keywords are fields of :class:`semantic.settings.Settings`. What is not given comes from the environment
    (``SEMANTIC_...``), then from ``semantic.toml``. Raises a :class:`SemanticError` that says what to do.
    """
    from semantic.container import make_container, open_engine

    if adapter_path is not None and isinstance(model, tuple):
        raise InvalidRequestError("adapter_path is for a model by its name; semantic.load gives a pair with an adapter")
    container = make_container(
        adapter_path=adapter_path,
        memory=None if memory is None else str(memory),
        store=store,
        exactness=exactness,
        max_num_seqs=max_num_seqs,
        max_waiting=max_waiting,
        max_token_gap_ms=max_token_gap_ms,
        prefill_step_size=prefill_step_size,
        cache_layout=cache_layout,
        kv_bits=kv_bits,
        kv_group_size=kv_group_size,
        kv_at_rest=kv_at_rest,
        prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        **settings,
    )
    return open_engine(container, model)


def aopen(model: Any = None, **settings: Any) -> "AsyncOpening":
    """:func:`open` for event loops: ``async with semantic.aopen(...) as engine``, an :class:`AsyncEngine`.

    Takes what :func:`open` takes. Loading happens on a thread of its own; of a pair, only what its arrays still have to
    compute happens here, since they belong to the thread that made them. It can be awaited too; then close the engine
    yourself.
    """
    from semantic.application.async_opening import AsyncOpening

    def before() -> None:
        if isinstance(model, tuple):
            from semantic.container import settle

            settle(model)

    return AsyncOpening(lambda: open(model, **settings), before)


def load(model: Any = None, *, adapter_path: "str | PathLike[str] | None" = None, **settings: Any) -> tuple[Any, Any]:
    """The (model, tokenizer) pair of any source, as ``mlx_lm.load`` returns it, for mlx_lm and for :func:`open`.

    ``adapter_path``: the folder of a LoRA adapter to put on. On CPU the weights are float32 unless ``compute_dtype``
    says otherwise.
    """
    from semantic.container import make_container

    container = make_container(adapter_path=adapter_path, **settings)
    loaded = container.model_source().load(container.settings().model if model is None else str(model))
    return loaded.model, loaded.tokenizer


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'semantic' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
