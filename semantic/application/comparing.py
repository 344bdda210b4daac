"""Hold a completion against what it should have been, by the token lane's rule."""

from collections.abc import Sequence

from attrs import evolve

from semantic.application.ports.reference import ReferenceOutput
from semantic.application.reference_session import ReferenceSession
from semantic.domain.experiments import (
    TIE_BOUND_NATS,
    TokenComparison,
    compare_token_ids,
    drawn_tokens,
    is_tie,
)
from semantic.domain.value_objects.completion import Completion, FinishReason


def compare_with_reference(actual: Completion, expected: ReferenceOutput) -> TokenComparison:
    """Token ids, and where both ended, against the reference's. ``expected`` must carry its top two."""
    return compare_token_ids(
        _drawn(actual),
        drawn_tokens(expected.token_ids, expected.finish_reason == FinishReason.STOP),
        expected.top2,
        end_ids=expected.eos_token_ids,
    )


def compare_with_solo(
    actual: Completion, solo: Completion, prompt_ids: Sequence[int], reference: ReferenceSession
) -> TokenComparison:
    """A completion from a batch against the same request's alone.

    Only where they differ is the reference asked for its two candidates, after the tokens that both drew.
    """
    ours, alone = _drawn(actual), _drawn(solo)
    comparison = compare_token_ids(ours, alone, ())
    position = comparison.first_divergence
    if position is None or comparison.actual is None or comparison.expected is None:
        return comparison
    there = reference.after([*prompt_ids, *alone[:position]])
    ranked = there.top2[0]
    tie = is_tie(comparison.actual, comparison.expected, ranked, TIE_BOUND_NATS, there.eos_token_ids)
    return evolve(comparison, gap=ranked.gap, is_tie=tie)


def _drawn(completion: Completion) -> list[int]:
    return drawn_tokens(completion.token_ids, completion.finish_reason == FinishReason.STOP)
