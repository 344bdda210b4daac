"""A request that is being served: its sequence, and what the engine needs besides."""

from attrs import define, field

from semantic.application.guarded_processors import GuardedProcessors
from semantic.application.lease import Lease
from semantic.application.ports.model import DecodeRow, Drawn
from semantic.application.text_assembly import TextAssembler
from semantic.domain.entities import Sequence
from semantic.domain.services.drafter import Drafter
from semantic.domain.value_objects import Completion, FinishReason, Terms, Timings, TokenLogprobs, Usage


@define(eq=False)
class ActiveRequest:
    """``submitted_at``, ``first_token_at``: seconds on the engine's clock, the latter 0 before there is a token.

    Up to ``num_charged_tokens`` its client was charged, or they were cached.
    """

    sequence: Sequence
    lease: Lease
    text: TextAssembler
    seed: int
    stop_token_ids: frozenset[int]
    submitted_at: float
    terms: Terms
    first_token_at: float = 0.0
    num_charged_tokens: int = 0
    is_prefetched: bool = False
    logprobs: list[TokenLogprobs] = field(factory=list)
    processors: GuardedProcessors | None = None
    drafter: Drafter | None = None

    def is_late(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.terms.deadline_s is not None and now - self.submitted_at >= self.terms.deadline_s

    def newly_computed(self, num_tokens: int) -> int:
        """How many of the last ``num_tokens`` that were computed are so for the first time, which is noted."""
        computed = self.sequence.num_computed_tokens
        new = min(num_tokens, max(0, computed - self.num_charged_tokens))
        self.num_charged_tokens = max(self.num_charged_tokens, computed)
        return new

    def row(self, draft: tuple[int, ...] = ()) -> DecodeRow:
        """What the next decode step feeds."""
        sampling = self.sequence.sampling
        return DecodeRow(
            cache=self.lease.cache,
            token_id=self.sequence.last_token,
            sampling=sampling,
            seed=self.seed,
            index=len(self.sequence.output_token_ids),
            history=self.sequence.token_ids if sampling.changes_logits else (),
            draft=draft,
        )

    def take(self, drawn: Drawn) -> str:
        """Take one token into text and sequence, whose row is committed; return the text that it settles.

        On a stop or at the limit the sequence is finished. A token that stops is not part of the output. Raises
        :class:`LogitsProcessorError` if it was drawn from what a failing processor left.
        """
        if self.processors is not None:
            self.processors.raise_if_failed()
        sequence, text = self.sequence, self.text
        if drawn.token_id in self.stop_token_ids:
            sequence.finish(FinishReason.STOP)
            return text.finish()
        piece = text.add(drawn.token_id)
        sequence.append(drawn.token_id)
        if drawn.logprobs is not None:
            self.logprobs.append(drawn.logprobs)
        if not text.stopped and sequence.num_tokens < sequence.max_total_tokens:
            return piece
        sequence.finish(FinishReason.STOP if text.stopped else FinishReason.LENGTH)
        return piece + text.finish()

    def logprobs_from(self, index: int) -> tuple[TokenLogprobs, ...] | None:
        """Those of the output from its ``index``-th token on; None where none are asked for."""
        return None if self.sequence.sampling.logprobs is None else tuple(self.logprobs[index:])

    def completion(self, now: float) -> Completion:
        """What the request has come to."""
        sequence = self.sequence
        assert sequence.finish_reason is not None, sequence
        drawn = len(sequence.output_token_ids)
        decode_s = now - self.first_token_at
        return Completion(
            text=self.text.text,
            token_ids=tuple(sequence.output_token_ids),
            finish_reason=sequence.finish_reason,
            usage=Usage(sequence.num_prompt_tokens, sequence.num_cached_tokens, drawn),
            timings=Timings(
                ttft_s=(self.first_token_at or now) - self.submitted_at,
                decode_tokens_per_s=(drawn - 1) / decode_s if drawn > 1 and decode_s > 0 else 0.0,
            ),
            logprobs=self.logprobs_from(0),
        )
