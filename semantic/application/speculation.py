"""Speculation: which tokens a decode step verifies beside those it has to feed, and what is learned from it."""

from collections.abc import Callable, Iterable, Sequence

from semantic.application.active_request import ActiveRequest
from semantic.application.ports.clock import Clock
from semantic.application.ports.model import DecodeRow, Drawn, ModelProfile
from semantic.domain.services.drafter import Draft, Drafter, PromptLookupDrafter
from semantic.domain.services.step_costs import StepCosts
from semantic.domain.value_objects import Reuse

MakeDrafter = Callable[[Iterable[int]], Drafter]
"""Makes the drafter of a sequence that has so many tokens already."""


def most_tokens_fed(max_num_seqs: int, num_tokens: int) -> int:
    """What a decode step feeds at most, for whose logits memory is reserved: a token of every row, or one's draft."""
    return max(max_num_seqs, 1 + num_tokens)


class Speculation:
    """Makes the rows of a decode step. A draft has at most ``num_tokens`` tokens; 0 means none are made.

    All rows of a step share the ``most_fed`` tokens that it may feed. What a draft changes is when tokens are drawn,
    never which (ADR 0021).
    """

    def __init__(
        self,
        profile: ModelProfile,
        clock: Clock,
        *,
        num_tokens: int,
        most_fed: int,
        make_drafter: MakeDrafter = PromptLookupDrafter,
    ) -> None:
        self._num_tokens = num_tokens if profile.verifies_drafts != "never" else 0
        self._most_fed = most_fed
        self._apart = profile.verifies_drafts == "apart"
        self._ends_at_blocks = profile.reuse is Reuse.AT_STATES  # a state is kept there, which needs the cache to end
        self._clock, self._make_drafter = clock, make_drafter
        self._costs = StepCosts()
        self._started_at = 0.0
        self.drafted_tokens = self.accepted_tokens = 0

    def rows(self, requests: Sequence[ActiveRequest]) -> list[DecodeRow]:
        """The rows of the requests' next step, with the drafts that are worth it."""
        if not self._num_tokens:
            return [request.row() for request in requests]
        fed, expected, rows = len(requests), float(len(requests)), list[DecodeRow]()
        most_fed = self._most_fed if len(requests) == 1 or not self._apart else 0
        for request in requests:
            draft = self._draft(request, (most_fed - fed) // (len(requests) - len(rows)))
            worthwhile = self._costs.worthwhile(draft.chances, fed, expected)
            fed, expected = fed + worthwhile.tokens, expected + worthwhile.expected
            rows.append(request.row(tuple(draft.tokens[: worthwhile.tokens])))
        self._started_at = self._clock.monotonic()
        return rows

    def learn(
        self, requests: Sequence[ActiveRequest], rows: Sequence[DecodeRow], draws: Sequence[Sequence[Drawn]]
    ) -> None:
        """Note what the step took, and what it drew."""
        if not self._num_tokens:
            return
        drafted = sum(len(row.draft) for row in rows)
        self._costs.measured(len(rows), len(rows) + drafted, self._clock.monotonic() - self._started_at)
        self.drafted_tokens += drafted
        self.accepted_tokens += sum(map(len, draws)) - len(rows)
        for request, drawn in zip(requests, draws, strict=True):
            if request.drafter is not None:
                request.drafter.observe([one.token_id for one in drawn])

    def _draft(self, request: ActiveRequest, most: int) -> Draft:
        """Nothing is indexed before there is a first token, so that nobody waits longer for it."""
        sequence = request.sequence
        if not sequence.output_token_ids:
            return Draft()
        if request.drafter is None:
            request.drafter = self._make_drafter(sequence.token_ids)
        return request.drafter.draft(min(most, self._num_tokens, self._room(request)))

    def _room(self, request: ActiveRequest) -> int:
        """How many tokens may be fed beside the last one."""
        sequence = request.sequence
        ends = [sequence.max_total_tokens - 1, sequence.block_table.capacity_tokens]
        if self._ends_at_blocks:
            size = sequence.block_table.block_tokens
            ends.append(sequence.num_computed_tokens // size * size + size)
        return min(ends) - sequence.num_computed_tokens - 1
