"""The Qwen families in GGUF: Qwen 2 and 2.5, Qwen 3. Their query and key rows lie as mlx_lm has them."""

from mlx_lm.models import qwen2, qwen3

from semantic.adapters.model_sources.gguf_facts import Facts
from semantic.adapters.model_sources.gguf_family import DECODER_MODULES, QK_NORMS, Family


def _qwen2_config(facts: Facts) -> qwen2.ModelArgs:
    arguments = facts.decoder()
    facts.expect("attention.key_length", arguments["hidden_size"] // arguments["num_attention_heads"])
    del arguments["head_dim"]  # always that quotient
    return qwen2.ModelArgs(model_type="qwen2", **arguments, tie_word_embeddings=not facts.has("output.weight"))


def _qwen3_config(facts: Facts) -> qwen3.ModelArgs:
    return qwen3.ModelArgs(model_type="qwen3", **facts.decoder(), tie_word_embeddings=not facts.has("output.weight"))


QWEN2 = Family(model=qwen2.Model, config=_qwen2_config, modules=DECODER_MODULES)
QWEN3 = Family(model=qwen3.Model, config=_qwen3_config, modules={**DECODER_MODULES, **QK_NORMS})
