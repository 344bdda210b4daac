"""What comes between the model's logits and the choice: mlx_lm's processors, as ``generate_step`` applies them."""

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.sample_utils import make_logits_processors

from semantic.application.ports.model import DecodeRow
from semantic.domain.value_objects import SamplingParams


def process(logits: mx.array, row: DecodeRow) -> mx.array:
    """The row's logits ``[1, vocabulary]`` behind its bias, its penalties and its own processors, in this order."""
    sampling = row.sampling
    assert row.history[-1] == row.token_id, "a row's history ends with the token that it feeds"
    tokens = mx.array(list(_seen(row.history, sampling)))
    stock = make_logits_processors(
        dict(sampling.logit_bias),
        sampling.repetition_penalty,
        sampling.repetition_context_size,
        sampling.presence_penalty,
        sampling.presence_context_size,
        sampling.frequency_penalty,
        sampling.frequency_context_size,
    )
    for processor in (*stock, *sampling.logits_processors):
        logits = processor(tokens, logits)
    return logits


def _seen(history: Sequence[int], sampling: SamplingParams) -> Sequence[int]:
    """What the processors look at: making an array of a long history takes longer than all of them."""
    if sampling.logits_processors:
        return history
    sizes = (sampling.repetition_context_size, sampling.presence_context_size, sampling.frequency_context_size)
    return history if 0 in sizes else history[-max(sizes) :]
