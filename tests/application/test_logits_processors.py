"""Processors and log-probabilities of a request: what they see, what comes of them, and whom a failing one harms."""

from typing import Any

import pytest
from driving import Driven

from semantic.adapters.fakes import FakeModel, FakeTokenizer, fake_batch_engine
from semantic.domain.errors import InvalidRequestError, LogitsProcessorError
from semantic.domain.value_objects import FinishReason


@pytest.fixture
def driven() -> Driven:
    return Driven(fake_batch_engine(blocks=32))


def raising(tokens: Any, logits: Any) -> Any:
    if len(tokens) == 5:
        raise KeyError("no such rule")
    return logits


def flattening(tokens: Any, logits: Any) -> Any:
    return logits[0]


def forgetting(tokens: Any, logits: Any) -> None:
    logits[:] = 0


@pytest.mark.parametrize(
    ("processor", "message"),
    [(raising, "KeyError: 'no such rule'"), (flattening, "shape"), (forgetting, "NoneType")],
)
def test_a_processor_that_fails_ends_its_own_request_by_name_and_no_other(
    driven: Driven, processor: Any, message: str
) -> None:
    expected = driven.generate("abc", max_tokens=6).token_ids
    failing = driven.submit("xyz", max_tokens=6, logits_processors=[processor])
    mate = driven.submit("abc", max_tokens=6)
    driven.run()
    assert isinstance(driven.errors[failing], LogitsProcessorError)
    assert message in str(driven.errors[failing])
    assert driven.completion(mate).token_ids == expected
    assert driven.engine.stats().pool_blocks_in_use == 0


def test_the_error_of_a_processor_is_the_cause_of_its_requests_end(driven: Driven) -> None:
    failing = driven.submit("xyz", logits_processors=[raising])
    driven.run()
    assert isinstance(driven.errors[failing].__cause__, KeyError)


def test_processors_run_in_their_order_on_prompt_and_output_also_behind_a_cached_prefix(driven: Driven) -> None:
    seen: list[list[int]] = []

    def watching(tokens: Any, logits: Any) -> Any:
        seen.append(tokens.tolist())
        return logits - 100.0 * (logits == logits.max())  # the second best becomes the best

    def undoing(tokens: Any, logits: Any) -> Any:
        return logits + 100.0 * (logits == logits.min())

    prompt = "a" * 40
    plain = driven.generate(prompt, max_tokens=3)
    processed = driven.generate(prompt, max_tokens=3, logits_processors=[watching, undoing])
    assert processed.token_ids == plain.token_ids
    assert processed.usage.cached_tokens == 39
    asked = FakeTokenizer().encode(prompt)
    assert seen == [[*asked, *plain.token_ids[:count]] for count in range(3)]


def test_completion_and_deltas_have_the_log_probabilities_of_their_tokens(driven: Driven) -> None:
    request = driven.submit("abc", max_tokens=5, logprobs=2)
    driven.run()
    done = driven.completion(request)
    assert done.logprobs is not None
    assert tuple(one.token_id for one in done.logprobs) == done.token_ids
    assert [len(one.top) for one in done.logprobs] == [2] * 5
    assert all(one.top[0] == (one.token_id, one.logprob) for one in done.logprobs)
    assert [delta.logprobs for delta in driven.deltas[request]] == [(one,) for one in done.logprobs]


def test_a_token_that_stops_has_no_log_probability_in_the_output() -> None:
    driven = Driven(fake_batch_engine(model=FakeModel(choose=lambda tokens: 98 if len(tokens) < 5 else 0), blocks=32))
    done = driven.generate([1, 2, 3], logprobs=0)
    assert (done.token_ids, done.finish_reason) == ((98, 98), FinishReason.STOP)
    assert [one.token_id for one in done.logprobs or ()] == [98, 98]


def test_without_being_asked_for_there_are_no_log_probabilities(driven: Driven) -> None:
    request = driven.submit("abc", max_tokens=2)
    driven.run()
    assert driven.completion(request).logprobs is None
    assert [delta.logprobs for delta in driven.deltas[request]] == [None, None]


def test_a_cancelled_request_has_those_of_the_tokens_it_got(driven: Driven) -> None:
    request = driven.submit("abc", max_tokens=9, logprobs=0)
    driven.step(3)
    driven.cancel(request)
    done = driven.completion(request)
    assert len(done.logprobs or ()) == len(done.token_ids) > 0
    assert driven.deltas[request][-1].logprobs == ()


@pytest.mark.parametrize(
    "given", [{"logit_bias": {257: 1.0}}, {"logit_bias": {-1: 1.0}}, {"xtc_special_tokens": [257]}]
)
def test_a_token_outside_the_vocabulary_is_refused_by_name(driven: Driven, given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InvalidRequestError, match=rf"{name} names token (257|-1).*0 to 256"):
        driven.submit("abc", **given)


def test_preempted_in_between_a_request_is_processed_as_if_it_had_never_paused() -> None:
    def by_sum(tokens: Any, logits: Any) -> Any:
        logits[0, 98 + int(tokens.sum()) % 20] += 3.0
        return logits

    asked: dict[str, Any] = {
        "max_tokens": 100,
        "repetition_penalty": 1.4,
        "repetition_context_size": 0,
        "logits_processors": by_sum,
        "logprobs": 2,
    }
    prompts = [[1] * 20, [2] * 20, [3] * 20]
    alone = [Driven(fake_batch_engine(blocks=32)).generate(prompt, **asked) for prompt in prompts]
    crowded = Driven(fake_batch_engine(blocks=8))
    requests = [crowded.submit(prompt, **asked) for prompt in prompts]
    crowded.run()
    together = [crowded.completion(request) for request in requests]
    assert crowded.engine.stats().preemptions > 0
    assert [done.token_ids for done in together] == [done.token_ids for done in alone]
    assert [done.logprobs for done in together] == [done.logprobs for done in alone]
    assert len({done.token_ids for done in alone}) == 3
