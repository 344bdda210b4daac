"""The async face on the default model: opened off the loop's thread, what it says is what threads are told."""

import asyncio

import pytest

import semantic

pytestmark = pytest.mark.model

PROMPT = "The quick brown fox"


def test_tasks_share_the_model_with_threads_and_a_cancelled_one_leaves_nothing_behind() -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        async with semantic.aopen("smollm2-135m", memory="500MB") as engine:
            assert ticks > 10, "the loop stood still while the model was loaded"
            expected = engine.sync.generate(PROMPT, max_tokens=8)
            one, many, deltas = await asyncio.gather(
                engine.generate(PROMPT, max_tokens=8),
                engine.batch_generate([PROMPT, "def fibonacci(n):"], max_tokens=8),
                _texts(engine, max_tokens=8),
            )
            assert one.text == many[0].text == "".join(deltas) == expected.text

            alice = engine.agent("alice", system="You are terse.")
            reply = await alice.chat("Name a colour.", max_tokens=6)
            assert alice.history[-1]["content"] == reply.text

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await engine.generate(PROMPT, max_tokens=2000)
            await engine.drain()
            assert engine.stats().pool_blocks_in_use == 0
        ticking.cancel()

    asyncio.run(main())


async def _texts(engine: semantic.AsyncEngine, max_tokens: int) -> list[str]:
    return [delta.text async for delta in engine.stream(PROMPT, max_tokens=max_tokens)]
