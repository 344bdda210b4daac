"""SentencePiece BPE (``tokenizer.ggml.model`` is ``llama``): how Llama 2, TinyLlama, Mistral and Gemma tokenise."""

import math
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers

_SPACE = "\u2581"
_NORMAL, _UNKNOWN, _USER_DEFINED = 1, 2, 4


def adds_space(metadata: Mapping[str, Any]) -> bool:
    """Whether a space is put before the text, and taken away again in decoding."""
    return bool(metadata.get("tokenizer.ggml.add_space_prefix", True))


def sentencepiece_bpe(metadata: Mapping[str, Any]) -> Tokenizer:
    """The file has scores and no merges: SentencePiece merges the pair whose piece scores highest, leftmost first."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = _merges(tokens, types, metadata["tokenizer.ggml.scores"], vocabulary)
    unknown = tokens[types.index(_UNKNOWN)] if _UNKNOWN in types else None
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaces: list[Any] = [normalizers.Replace(" ", _SPACE)]
    decoding: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if adds_space(metadata):
        spaces.insert(0, normalizers.Prepend(_SPACE))
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(decoding)
    return tokenizer


def _merges(
    tokens: list[str], types: list[int], scores: list[float], vocabulary: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, best piece first.

    Pieces that the user defined, as Gemma's runs of spaces, come before all others.
    """
    ranked = []
    for piece, kind, score in zip(tokens, types, scores, strict=True):
        if kind in (_NORMAL, _USER_DEFINED):
            score = math.inf if kind == _USER_DEFINED else score
            halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
            pairs = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
            ranked += [(-score, vocabulary[left], vocabulary[right], left, right) for left, right in pairs]
    return [(left, right) for *_, left, right in sorted(ranked)]
