"""Agents on the default model: what they remember is exact, in this process and after it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx_lm
import pytest

import semantic

pytestmark = pytest.mark.model

NEW_TOKENS = 12
QUESTIONS = ("Name one colour.", "Name another one.", "Which was the first?")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair() -> Any:
    return semantic.load("smollm2-135m")


@pytest.fixture
def engine(pair: Any, tmp_path: Path) -> Iterator[semantic.Engine]:
    with semantic.open(pair, memory="500MB", store=tmp_path / "kv") as opened:
        yield opened


def as_mlx_lm_would(pair: Any, history: list[dict[str, str]], question: str) -> str:
    """The reply of a chat without memory."""
    model, tokenizer = pair
    messages = [*history, {"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    text: str = mlx_lm.generate(model, tokenizer, prompt=prompt, max_tokens=NEW_TOKENS)
    return text


def test_each_turn_is_mlx_lms_reply_to_the_whole_chat_and_computes_the_new_message_only(
    engine: semantic.Engine, pair: Any
) -> None:
    agent = engine.agent("alice", system="You are terse.")
    for question in QUESTIONS:
        known, history = len(agent.tokens), agent.history
        done = agent.chat(question, max_tokens=NEW_TOKENS)
        assert done.text == as_mlx_lm_would(pair, history, question)
        if known:
            assert done.usage.cached_tokens >= known - 1  # the last token drawn is fed with the next turn
        assert done.usage.prompt_tokens - done.usage.cached_tokens < 40


def test_another_process_goes_on_where_a_killed_one_had_committed(pair: Any, tmp_path: Path) -> None:
    program = (
        "import semantic\n"
        f"with semantic.open('smollm2-135m', memory='500MB', store={str(tmp_path / 'kv')!r}) as engine:\n"
        "    alice = engine.agent('alice', system='You are terse.')\n"
        f"    alice.chat({QUESTIONS[0]!r}, max_tokens={NEW_TOKENS})\n"
        "    engine.flush()\n"
        "    for delta in alice.stream('Write a long story about the sea.', max_tokens=500):\n"
        "        print('in the middle of a turn', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "in the middle of a turn"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with semantic.open(pair, memory="500MB", store=tmp_path / "kv") as engine:
        alice = engine.agent("alice")
        assert [entry["role"] for entry in alice.history] == ["system", "user", "assistant"]
        known, history = len(alice.tokens), alice.history
        done = alice.chat(QUESTIONS[1], max_tokens=NEW_TOKENS)
        assert done.text == as_mlx_lm_would(pair, history, QUESTIONS[1])
        assert done.usage.cached_tokens >= known - 1


def test_ten_at_once_with_one_long_system_prompt_compute_it_once(engine: semantic.Engine) -> None:
    system = "You keep a log. " + " ".join(f"Rule {number}: write line {number} down." for number in range(60))
    chats = [[{"role": "system", "content": system}, {"role": "user", "content": f"Say {n}."}] for n in range(10)]
    done = engine.batch_generate(chats, max_tokens=4)
    longest = max(completion.usage.prompt_tokens for completion in done)
    assert longest > 500
    assert engine.stats().prefilled_tokens < longest + 9 * 20
    engine.flush()
    stats = engine.stats()
    assert stats.store is not None
    assert stats.store.store.bytes < 1.1 * longest * engine.profile.cache_spec.bytes_per_token + 10 * 12_000_000


def test_a_second_engine_on_the_same_store_is_told_who_has_it(
    engine: semantic.Engine, pair: Any, tmp_path: Path
) -> None:
    with pytest.raises(semantic.SemanticError, match=str(os.getpid())):
        semantic.open(pair, store=tmp_path / "kv")


def test_the_example_of_three_agents_ends_with_the_same_words_as_without_memory() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "three_agents.py")], capture_output=True, text=True, check=True
    )
    table = [line for line in done.stdout.splitlines() if line.startswith(("ada", "grace", "alan")) and " s" in line]
    assert [line.split()[-1] for line in table[-3:]] == ["yes", "yes", "yes"]
