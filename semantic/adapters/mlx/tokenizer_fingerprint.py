"""The fingerprint of a tokenizer in memory."""

import hashlib
import json
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper

from semantic.adapters.mlx.plain_values import plain

_SETTINGS = ("chat_template", "special_tokens_map", "add_bos_token", "add_eos_token", "eos_token_ids", "eos_token_id")
_MODELS = ("bpe_ranks", "mergeable_ranks", "special_tokens")
"""Where tokenizers that are not of the fast kind keep what they merge."""


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of vocabulary, merges, special tokens, chat template and end tokens. ``None`` has one too."""
    wrapped = isinstance(tokenizer, TokenizerWrapper)
    inner = tokenizer._tokenizer if wrapped else tokenizer
    facts = {
        "class": plain(type(inner)),
        "settings": {name: plain(getattr(inner, name, None)) for name in _SETTINGS},
        "template": plain(tokenizer._chat_template) if wrapped else None,
        "ends": sorted(tokenizer.eos_token_ids) if wrapped else None,
        "model": _model(inner),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _model(tokenizer: Any) -> Any:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        whole: str = fast.to_str()
        # Before the added tokens come truncation and padding, which encoding switches on and off: they change no id.
        return whole.partition('"added_tokens":')[2] or whole
    vocabulary: Any = getattr(tokenizer, "get_vocab", dict)()
    pieces = getattr(getattr(tokenizer, "sp_model", None), "serialized_model_proto", bytes)()
    return [plain(vocabulary), pieces.hex(), *(plain(getattr(tokenizer, name, None)) for name in _MODELS)]
