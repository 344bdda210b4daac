"""How much prompt is read between two tokens of the others."""

import pytest

from semantic.application.pacing import Pacing


def paced(*gaps_s: float, target_s: float | None = 0.5, step_tokens: int = 256) -> int:
    """The chunk that is left after full chunks with such gaps."""
    pacing = Pacing(target_s, step_tokens)
    for gap_s in gaps_s:
        pacing.note(pacing.limit(is_decoding=True), gap_s)
    return pacing.limit(is_decoding=True)


def test_while_nobody_waits_for_a_token_chunks_are_whole() -> None:
    assert Pacing(0.5, 256).limit(is_decoding=False) == 256


def test_without_a_target_they_always_are() -> None:
    assert paced(9.0, target_s=None) == 256


@pytest.mark.parametrize(
    ("gaps_s", "tokens"),
    [
        ((), 32),
        ((0.1,), 64),
        ((0.1, 0.15, 0.19), 256),
        ((0.1, 0.1, 0.1, 0.1), 256),
        ((0.1, 0.3), 64),
        ((0.1, 0.46), 32),
        ((0.6, 0.6, 0.6, 0.6), 16),
    ],
)
def test_the_chunk_doubles_when_twice_as_much_would_fit_and_halves_when_the_gap_nears_the_target(
    gaps_s: tuple[float, ...], tokens: int
) -> None:
    assert paced(*gaps_s) == tokens


def test_the_short_rest_of_a_prompt_says_nothing_about_longer_chunks() -> None:
    pacing = Pacing(0.5, 256)
    pacing.note(3, 0.05)
    assert pacing.limit(is_decoding=True) == 32


def test_a_chunk_is_never_longer_than_a_step_allows() -> None:
    assert paced(0.01, 0.01, step_tokens=24) == 24
