"""What the batch engine refuses before anything is computed, on fakes."""

from typing import Any

import pytest
from driving import Driven, driven, says

from semantic.adapters.fakes import (
    FakeClock,
    FakeModel,
    RecordingTelemetry,
    fake_batch_engine,
)
from semantic.application.batch_engine import BlockPoolBatchEngine
from semantic.domain.errors import (
    EmptyPromptError,
    InvalidRequestError,
    PromptTooLongError,
    RequestTooLargeError,
    TokenizerRequiredError,
    TokenOutOfVocabularyError,
)
from semantic.domain.services import BlockPool
from semantic.domain.value_objects import SamplingParams


def no_tokenizer(engine: BlockPoolBatchEngine) -> BlockPoolBatchEngine:
    return BlockPoolBatchEngine(
        model=engine.model,
        tokenizer=None,
        pool=BlockPool(64),
        clock=FakeClock(),
        telemetry=RecordingTelemetry(),
        random_seed=lambda: 0,
    )


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(EmptyPromptError, match="no tokens"):
        driven().submit([])


@pytest.mark.parametrize("token_id", [-1, 257, 10**30])
def test_a_token_id_outside_the_vocabulary_is_refused_and_named_with_its_place(token_id: int) -> None:
    with pytest.raises(TokenOutOfVocabularyError, match="at position 2") as caught:
        driven().submit([1, 2, token_id])
    assert (caught.value.token_id, caught.value.position, caught.value.vocab_size) == (token_id, 2, 257)


@pytest.mark.parametrize("token_id", [1.5, "1", None])
def test_a_token_id_that_is_no_integer_is_refused(token_id: Any) -> None:
    with pytest.raises(InvalidRequestError, match="position 1"):
        driven().submit([1, token_id])


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True, None])
def test_max_tokens_must_be_a_positive_integer(max_tokens: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_tokens must be a positive integer"):
        driven().submit("a", max_tokens=max_tokens)


@pytest.mark.parametrize(
    "sampling", [{"seed": 1.5}, {"seed": "1"}, {"top_k": 1.5}, {"stop": [1]}, {"stop_token_ids": ["a"]}]
)
def test_a_sampling_parameter_of_the_wrong_type_is_refused_before_it_can_harm_batch_mates(
    sampling: dict[str, Any],
) -> None:
    (name,) = sampling
    with pytest.raises(InvalidRequestError, match=name):
        driven().submit("a", temp=1.0, **sampling)


def test_top_k_must_be_smaller_than_the_vocabulary() -> None:
    with pytest.raises(InvalidRequestError, match="top_k"):
        driven().submit("a", temp=1.0, top_k=257)
    driven().generate("a", temp=1.0, top_k=256, max_tokens=1)


def test_a_prompt_that_leaves_no_room_in_the_context_is_refused() -> None:
    some = driven(FakeModel(context_length=10))
    with pytest.raises(PromptTooLongError, match="10 tokens and the model's context holds 10"):
        some.submit([1] * 10)
    assert len(some.generate([1] * 9, max_tokens=5).token_ids) == 1


def test_a_request_that_the_whole_pool_could_not_hold_is_refused() -> None:
    some = driven(FakeModel(block_tokens=16), blocks=2)
    with pytest.raises(RequestTooLargeError, match="need 3 blocks of 16 tokens and the whole pool has 2"):
        some.submit([1] * 30, max_tokens=4)
    assert len(some.generate([1] * 30, max_tokens=3).token_ids) == 3


def test_a_model_without_a_context_limit_is_bound_by_the_pool_alone() -> None:
    some = driven(FakeModel(context_length=None), blocks=2)
    with pytest.raises(RequestTooLargeError):
        some.submit("a", max_tokens=10**9)


def test_stop_strings_need_a_tokenizer() -> None:
    engine = no_tokenizer(fake_batch_engine())
    with pytest.raises(TokenizerRequiredError, match="stop_token_ids"):
        engine.submit([1], SamplingParams(stop="x"))


def test_without_a_tokenizer_text_is_empty_and_only_the_requests_own_stop_tokens_end_it() -> None:
    some = Driven(no_tokenizer(fake_batch_engine(model=says("hello"))))
    completion = some.generate([1], stop_token_ids=[109])
    assert (completion.text, completion.token_ids) == ("", (105, 102))


def test_a_refused_request_leaves_nothing_behind() -> None:
    some = driven()
    with pytest.raises(EmptyPromptError):
        some.submit([])
    assert not some.engine.has_work
    assert some.engine.stats().pool_blocks_in_use == 0
