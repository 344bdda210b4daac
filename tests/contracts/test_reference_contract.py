"""What every reference generator does: the fake, and mlx_lm in its own process."""

from collections.abc import Iterator

import pytest

from semantic.adapters.fakes.reference import FakeReference
from semantic.adapters.mlx.reference import SubprocessReference
from semantic.application.ports.reference import ReferenceGenerator
from semantic.domain.errors import ReferenceRunError

MODEL = "smollm2-135m"


@pytest.fixture(scope="module", params=["fake", pytest.param("mlx_lm", marks=pytest.mark.model)])
def reference(request: pytest.FixtureRequest) -> Iterator[ReferenceGenerator]:
    made: ReferenceGenerator = FakeReference() if request.param == "fake" else SubprocessReference(MODEL)
    with made:
        yield made


def test_the_same_prompt_gives_the_same_output(reference: ReferenceGenerator) -> None:
    first, second = (reference.generate("The quick brown fox", max_tokens=6) for _ in range(2))
    assert (first.text, first.token_ids) == (second.text, second.token_ids)
    assert len(first.token_ids) == 6
    assert first.finish_reason == "length"
    assert first.text


def test_the_candidates_belong_to_the_drawn_tokens_and_are_there_only_on_request(
    reference: ReferenceGenerator,
) -> None:
    output = reference.generate("The quick brown fox", max_tokens=6, want_top2=True)
    assert [ranked.first for ranked in output.top2] == list(output.token_ids)
    assert all(ranked.second != ranked.first for ranked in output.top2)
    assert all(ranked.gap >= 0 for ranked in output.top2)
    assert reference.generate("The quick brown fox", max_tokens=6).top2 == ()


def test_asking_for_candidates_changes_no_token(reference: ReferenceGenerator) -> None:
    plain = reference.generate("Hello", max_tokens=5)
    asked = reference.generate("Hello", max_tokens=5, want_top2=True)
    assert plain.token_ids == asked.token_ids


def test_token_ids_are_a_prompt_too_and_continue_where_text_left_off(reference: ReferenceGenerator) -> None:
    whole = reference.generate([20, 30, 40], max_tokens=4)
    head = reference.generate([20, 30, 40], max_tokens=2)
    tail = reference.generate([20, 30, 40, *head.token_ids], max_tokens=2)
    assert whole.token_ids == head.token_ids + tail.token_ids
    assert whole.prompt_tokens == 3


def test_chat_messages_are_rendered_by_the_template(reference: ReferenceGenerator) -> None:
    chat = reference.generate([{"role": "user", "content": "Hi"}], max_tokens=3)
    assert chat.prompt_tokens > reference.generate("Hi", max_tokens=3).prompt_tokens


def test_a_prefill_step_size_may_be_given(reference: ReferenceGenerator) -> None:
    prompt = list(range(20, 60))
    assert reference.generate(prompt, max_tokens=3, prefill_step_size=8).prompt_tokens == 40


def test_the_end_of_sequence_token_is_named_and_never_among_the_ids(reference: ReferenceGenerator) -> None:
    output = reference.generate("Hello", max_tokens=5)
    assert output.eos_token_ids
    assert not output.eos_token_ids & set(output.token_ids)


def test_times_are_measured(reference: ReferenceGenerator) -> None:
    output = reference.generate("Hello", max_tokens=5)
    assert 0 < output.ttft_s <= output.total_s


def test_a_refused_run_is_a_named_error_and_the_next_one_is_served(reference: ReferenceGenerator) -> None:
    with pytest.raises(ReferenceRunError):
        reference.generate([], max_tokens=3)
    assert reference.generate("Hello", max_tokens=2).token_ids


@pytest.mark.parametrize("kind", ["fake", pytest.param("mlx_lm", marks=pytest.mark.model)])
def test_closing_twice_is_a_no_op_and_a_run_after_it_is_refused(kind: str) -> None:
    reference: ReferenceGenerator = FakeReference() if kind == "fake" else SubprocessReference(MODEL)
    reference.close()
    reference.close()
    with pytest.raises(ReferenceRunError, match="closed"):
        reference.generate("Hello", max_tokens=2)
