"""The tokenizer inside a GGUF file, built with ``tokenizers`` (transformers' own GGUF reader needs torch)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, TokenizerWrapper
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from semantic.domain.errors import ModelDamagedError, UnsupportedArchitectureError

_CONTROL, _USER_DEFINED = 3, 4
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>")

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


_PRE_TOKENIZERS: Mapping[str, Callable[[], Any]] = {
    "default": _gpt2,
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": lambda: _split(_LLAMA3_SPLIT),
    "qwen2": lambda: _split(_QWEN2_SPLIT),
}
"""How text is cut before merging, by ``tokenizer.ggml.pre``."""


def build_tokenizer(metadata: Mapping[str, Any], path: Path) -> TokenizerWrapper:
    """The tokenizer that mlx_lm's functions take, with the same streaming detokenizer it would choose.

    Raises ``UnsupportedArchitectureError`` for other kinds than byte-level BPE, ``ModelDamagedError`` for a
    vocabulary that does not fit together.
    """
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise UnsupportedArchitectureError(
            f"{path}: its tokenizer is {kind!r} with pre-tokenizer {pre!r}; served: 'gpt2' (byte-level "
            f"BPE) with {', '.join(_PRE_TOKENIZERS)}. Take the model as an mlx-lm folder or by its hub id"
        )
    try:
        tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        fast = _wrap(_byte_level_bpe(metadata, tokens, pre), metadata, tokens)
    except Exception as exc:  # tokenizers raises bare Exception
        raise ModelDamagedError(f"{path}: its vocabulary does not fit together ({exc}); fetch it again") from exc
    return TokenizerWrapper(fast, BPEStreamingDetokenizer, eos_token_ids=_eos_ids(metadata, tokens))


def _byte_level_bpe(metadata: Mapping[str, Any], tokens: list[str], pre: str) -> Tokenizer:
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata.get("tokenizer.ggml.token_type", [])
    for kind, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        added = [
            AddedToken(t, special=special, normalized=False) for t, k in zip(tokens, types, strict=False) if k == kind
        ]
        add: Any = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add(added)
    if metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe"):
        bos = int(metadata["tokenizer.ggml.bos_token_id"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]} $B",
            special_tokens=[(tokens[bos], bos)],
        )
    return tokenizer


def _wrap(tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str]) -> PreTrainedTokenizerFast:
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    ids = {argument: metadata.get(f"tokenizer.ggml.{key}_token_id") for key, argument in names.items()}
    special = {argument: tokens[index] for argument, index in ids.items() if index is not None}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    fast.chat_template = metadata.get("tokenizer.chat_template")
    return fast


def _eos_ids(metadata: Mapping[str, Any], tokens: list[str]) -> set[int]:
    """What the metadata says ends a sequence or a turn, and the two usual end-of-turn tokens."""
    said = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot"))
    by_name = (tokens.index(name) for name in _END_OF_TURN if name in tokens)
    return {int(index) for index in (*said, *by_name) if index is not None}
