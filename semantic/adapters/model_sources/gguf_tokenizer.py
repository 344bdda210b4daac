"""The tokenizer inside a GGUF file, built with ``tokenizers`` (transformers' own GGUF reader needs torch)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer, TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from semantic.adapters.model_sources.gguf_bpe import PRE_TOKENIZERS, byte_level_bpe
from semantic.adapters.model_sources.gguf_sentencepiece import adds_space, sentencepiece_bpe
from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
_ALSO_END = {"qwen2": ("<|endoftext|>",)}
"""By pre-tokenizer: what the published generation settings add."""


def build_tokenizer(metadata: Mapping[str, Any], path: Path) -> TokenizerWrapper:
    """The tokenizer that mlx_lm's functions take, with the streaming detokenizer that mlx_lm would choose.

    Raises ``UnsupportedArchitectureError`` for other kinds than byte-level and SentencePiece BPE,
    ``ModelDamagedError`` for a vocabulary that does not fit together.
    """
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    byte_level = kind == "gpt2"
    if not (byte_level and pre in PRE_TOKENIZERS) and kind != "llama":
        raise UnsupportedArchitectureError(
            f"{path}: its tokenizer is {kind!r} with pre-tokenizer {pre!r}; served: 'llama', and 'gpt2' with "
            f"{', '.join(PRE_TOKENIZERS)}. Take the model as an mlx-lm folder or by its hub id"
        )
    try:
        tokenizer = byte_level_bpe(metadata, pre) if byte_level else sentencepiece_bpe(metadata)
        _add_special_tokens(tokenizer, metadata)
        if metadata.get("tokenizer.ggml.add_bos_token", not byte_level or pre == "llama-bpe"):
            _begin_with_bos(tokenizer, metadata)
        fast = _wrap(tokenizer, metadata)
    except Exception as exc:  # tokenizers raises bare Exception
        raise ModelDamagedError(f"{path}: its vocabulary does not fit together ({exc}); fetch it again") from exc
    streaming = partial(SPMStreamingDetokenizer, trim_space=adds_space(metadata))
    return TokenizerWrapper(
        fast, BPEStreamingDetokenizer if byte_level else streaming, eos_token_ids=_eos_ids(metadata)
    )


def _add_special_tokens(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> None:
    typed = list(zip(metadata["tokenizer.ggml.tokens"], metadata.get("tokenizer.ggml.token_type", ()), strict=False))
    special = [
        AddedToken(token, special=True, normalized=False) for token, kind in typed if kind in (_UNKNOWN, _CONTROL)
    ]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, kind in typed if kind == _USER_DEFINED])


def _begin_with_bos(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> None:
    index = int(metadata["tokenizer.ggml.bos_token_id"])
    bos = metadata["tokenizer.ggml.tokens"][index]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, index)]
    )


def _wrap(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    tokens = metadata["tokenizer.ggml.tokens"]
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    ids = {argument: metadata.get(f"tokenizer.ggml.{key}_token_id") for key, argument in names.items()}
    special = {argument: tokens[index] for argument, index in ids.items() if index is not None}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    fast.chat_template = metadata.get("tokenizer.chat_template")
    return fast


def _eos_ids(metadata: Mapping[str, Any]) -> set[int]:
    """What the metadata says ends a sequence or a turn, and the tokens that usually do."""
    tokens = metadata["tokenizer.ggml.tokens"]
    said = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot"))
    names = (*_END_OF_TURN, *_ALSO_END.get(metadata.get("tokenizer.ggml.pre", ""), ()))
    by_name = (tokens.index(name) for name in names if name in tokens)
    return {int(index) for index in (*said, *by_name) if index is not None}
