"""Logits for a model that has none: highest at the token that it would choose, and processed as mlx_lm would.

Sampled rows have them too, highest at the token that they would draw, so processors act there and temperature and
filters do not. Processors are called with numpy arrays.
"""

import hashlib
import struct
from typing import Any

import numpy as np

from semantic.adapters.fakes.tokenizer import VOCAB_SIZE
from semantic.application.ports.model import DecodeRow, Drawn
from semantic.domain.value_objects import TokenLogprobs

_LETTERS = [byte + 1 for byte in b" abcdefghijklmnopqrstuvwxyz"]
_PEAK = 5.0


def draw(row: DecodeRow, peak: int) -> Drawn:
    """What a row draws that would choose ``peak`` without its processors, with what it asks for besides."""
    sampling = row.sampling
    logits = _logits(peak, row.index)
    if sampling.changes_logits:
        logits = _processed(logits, row)
    logprobs = (logits - logits.max())[0]
    logprobs -= np.log(np.exp(logprobs).sum())
    order = np.lexsort((np.arange(VOCAB_SIZE), -logprobs))
    token = int(order[0])
    if sampling.logprobs is None:
        return Drawn(token)
    top = tuple((int(one), float(logprobs[one])) for one in order[: sampling.logprobs])
    return Drawn(token, TokenLogprobs(token, float(logprobs[token]), top))


def _logits(peak: int, index: int) -> Any:
    """``[1, vocabulary]``: letters lie between 0 and 4 below the peak, by a hash; everything else is far below."""
    digest = hashlib.sha256(struct.pack("<2q", peak, index)).digest()
    logits = np.full((1, VOCAB_SIZE), -8.0, np.float32)
    logits[0, _LETTERS] = np.random.default_rng(list(digest[:8])).uniform(_PEAK - 4.0, _PEAK - 0.1, len(_LETTERS))
    logits[0, peak] = _PEAK
    return logits


def _processed(logits: Any, row: DecodeRow) -> Any:
    sampling, tokens = row.sampling, np.array(row.history)
    assert row.history[-1] == row.token_id, "a row's history ends with the token that it feeds"
    for token_id, bias in sampling.logit_bias:
        logits[0, token_id] += bias
    if sampling.repetition_penalty:
        seen = np.unique(tokens[-sampling.repetition_context_size :])
        penalty, found = sampling.repetition_penalty, logits[0, seen]
        logits[0, seen] = np.where(found < 0, found * penalty, found / penalty)
    if sampling.presence_penalty:
        logits[0, np.unique(tokens[-sampling.presence_context_size :])] -= sampling.presence_penalty
    if sampling.frequency_penalty:
        np.subtract.at(logits[0], tokens[-sampling.frequency_context_size :], sampling.frequency_penalty)
    for processor in sampling.logits_processors:
        logits = processor(tokens, logits)
    return logits
