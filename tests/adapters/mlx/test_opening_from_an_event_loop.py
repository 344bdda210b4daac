"""A pair that an event loop's thread has made is opened on another one."""

import asyncio
from typing import Any

import pytest

import semantic

pytestmark = pytest.mark.mlx


def test_a_pair_whose_arrays_are_still_lazy_is_opened_where_another_thread_could_not_compute_them(
    tiny_llama: Any,
) -> None:
    with semantic.open((tiny_llama(), None), memory="64MB") as engine:
        expected = engine.generate([1, 2, 3], max_tokens=4).token_ids

    async def main() -> tuple[int, ...]:
        async with semantic.aopen((tiny_llama(), None), memory="64MB") as engine:
            return (await engine.generate([1, 2, 3], max_tokens=4)).token_ids

    assert asyncio.run(main()) == expected


def test_an_adapter_for_a_pair_is_refused_in_the_task(tiny_llama: Any) -> None:
    async def main() -> None:
        with pytest.raises(semantic.SemanticError, match="adapter_path is for a model by its name"):
            await semantic.aopen((tiny_llama(), None), adapter_path="lora")

    asyncio.run(main())
