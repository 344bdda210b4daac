"""``semantic generate`` and ``semantic chat`` on a fake model: what their options ask of the engine."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from semantic.adapters.fakes import FakeTokenizer, fake_engine
from semantic.application.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with fake_engine() as made:
        yield made


class Watched:
    """An engine that notes the keyword arguments of every prepared request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.given: list[tuple[Any, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *error: object) -> None:
        """It is closed by the test."""

    def stream(self, prompt: Any, **given: Any) -> Any:
        self.given.append((list(prompt) if isinstance(prompt, list) else prompt, given))
        return self._engine.stream(prompt, **given)


@pytest.fixture
def watched(engine: Engine) -> Watched:
    return Watched(engine)


@pytest.fixture
def generate(cli: Any, watched: Watched) -> Callable[..., Any]:
    """The command line with that engine behind it."""
    opened = type(cli)(attrs.evolve(cli.services, open_engine=lambda settings: watched))
    return lambda *arguments: opened("generate", *arguments)


def test_a_prompt_is_completed_as_the_engine_completes_it(generate: Any, engine: Engine) -> None:
    outcome = generate("abc", "-m", "6")
    assert (outcome.code, outcome.out) == (0, engine.generate("abc", max_tokens=6).text + "\n")


def test_what_changes_logits_is_named_as_mlx_lm_names_it(generate: Any, watched: Watched) -> None:
    outcome = generate(
        "abc", "--max-tokens", "3", "--repetition-penalty", "1.3", "--repetition-context-size", "30",
        "--presence-penalty", "0.5", "--presence-context-size", "31", "--frequency-penalty", "0.25",
        "--frequency-context-size", "32", "--logit-bias", '{"98": -2, "99": 1.5}', "--min-p", "0.1", "--top-k", "3",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    [(prompt, given)] = watched.given
    changed = {name: value for name, value in given.items() if value not in (None, 0, 0.0)}
    assert prompt == "abc"
    assert changed == {
        "max_tokens": 3,
        "min_p": 0.1,
        "top_k": 3,
        "xtc_threshold": 0.1,
        "logit_bias": {98: -2.0, 99: 1.5},
        "repetition_penalty": 1.3,
        "repetition_context_size": 30,
        "presence_penalty": 0.5,
        "presence_context_size": 31,
        "frequency_penalty": 0.25,
        "frequency_context_size": 32,
    }


def test_xtc_spares_line_ends_and_what_ends_a_sequence(generate: Any, watched: Watched) -> None:
    generate("abc", "-m", "1", "--temp", "1", "--xtc-probability", "0.5", "--xtc-threshold", "0.2")
    [(_, given)] = watched.given
    assert (given["xtc_probability"], given["xtc_threshold"]) == (0.5, 0.2)
    assert given["xtc_special_tokens"] == {0, *FakeTokenizer().encode("\n")}


@pytest.mark.parametrize("value", ["98", "[98]", '{"98": "much"}', '{"the": 1}', "{"])
def test_a_bias_that_is_none_is_wrong_usage(generate: Any, watched: Watched, value: str) -> None:
    outcome = generate("abc", "--logit-bias", value)
    assert outcome.code == 2
    assert "--logit-bias" in outcome.err
    assert watched.given == []


def test_log_probabilities_come_as_a_table_behind_the_text(generate: Any, engine: Engine) -> None:
    done = engine.generate("abc", max_tokens=2, logprobs=1)
    assert done.logprobs is not None
    text, header, *rows = generate("abc", "-m", "2", "--logprobs", "1").out.splitlines()
    assert (text, header.split()) == (done.text, ["token", "#1"])
    for row, one in zip(rows, done.logprobs, strict=True):
        cell = f"{one.token_id} {FakeTokenizer().decode([one.token_id])!r} {one.logprob:.3f}"
        assert row.split("  ") == [cell, cell]


def test_log_probabilities_are_in_the_json_too(generate: Any) -> None:
    [done] = generate("abc", "-m", "2", "--logprobs", "3", "--json").json
    assert [one["token_id"] for one in done["logprobs"]] == done["token_ids"]
    assert [len(one["top"]) for one in done["logprobs"]] == [3, 3]
    [done] = generate("abc", "-m", "2", "--json").json
    assert done["logprobs"] is None


def test_with_a_template_config_a_prompt_is_what_a_user_says(generate: Any, watched: Watched) -> None:
    generate("Hi", "-m", "2", "--chat-template-config", '{"enable_thinking": false}')
    [(prompt, given)] = watched.given
    assert prompt == [{"role": "user", "content": "Hi"}]
    assert given["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_conversation_takes_the_same_options(cli: Any, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["Hi", "And?"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, ""))
    opened = type(cli)(attrs.evolve(cli.services, open_engine=lambda settings: watched))
    outcome = opened(
        "chat", "--system", "Be terse.", "-m", "4", "--min-p", "0.2", "--chat-template-config", '{"mood": "good"}'
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert [len(messages) for messages, _ in watched.given] == [2, 4]
    for _, given in watched.given:
        assert (given["max_tokens"], given["min_p"]) == (4, 0.2)
        assert given["chat_template_kwargs"] == {"mood": "good"}


@pytest.mark.parametrize(
    "arguments",
    [("generate", "Hi"), ("chat",), *(("agent", verb) for verb in ("chat", "fork", "export", "import", "forget"))],
    ids=" ".join,
)
def test_every_command_that_opens_an_engine_says_so_with_the_same_options(cli: Any, arguments: tuple[str, ...]) -> None:
    out = cli(*arguments, "--help").out
    for option in ("--model", "--adapter-path", "--store", "--memory", "--exactness", "--kv-bits", "--kv-at-rest"):
        assert option in out
