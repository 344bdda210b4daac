"""The text models of Gemma 3 in GGUF."""

from mlx_lm.models import gemma3_text

from semantic.adapters.model_sources.gguf_facts import Facts
from semantic.adapters.model_sources.gguf_family import DECODER_MODULES, QK_NORMS, Family

_USUAL_PATTERN = 6
"""Every so manieth layer sees all tokens; files of the published models leave it unsaid."""

_LAYERS_OF_27B = 62


def _config(facts: Facts) -> gemma3_text.ModelArgs:
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        facts.expect(key, 0.0)
    arguments = facts.decoder()
    window = facts.number("attention.sliding_window", 0)
    return gemma3_text.ModelArgs(
        model_type="gemma3_text",
        **arguments,
        rope_local_base_freq=facts.real("rope.freq_base_swa", 10_000.0),
        query_pre_attn_scalar=_query_scalar(facts, arguments),
        sliding_window=window,
        sliding_window_pattern=_pattern(facts, arguments["num_hidden_layers"]) if window else 1,
    )


def _query_scalar(facts: Facts, arguments: dict[str, float]) -> float:
    """Queries are divided by its root. Only the 27B model's is not the head's width; its files don't say so."""
    if scale := facts.real("attention.scale", 0.0):
        return scale**-2
    if arguments["num_hidden_layers"] == _LAYERS_OF_27B:
        return arguments["hidden_size"] / arguments["num_attention_heads"]
    return arguments["head_dim"]


def _pattern(facts: Facts, layers: int) -> int:
    """A period, or for each layer whether it sees a window only. mlx_lm takes periods."""
    key = "attention.sliding_window_pattern"
    said = facts.get(key, _USUAL_PATTERN)
    is_listed = isinstance(said, list)
    period = [*said, False].index(False) + 1 if is_listed else facts.number(key, _USUAL_PATTERN)
    if not 0 < period <= layers or (is_listed and said != [(layer + 1) % period != 0 for layer in range(layers)]):
        raise facts.unsupported("its layers with a window follow no period, and mlx_lm's gemma3 model needs one")
    return period


GEMMA3 = Family(
    model=gemma3_text.Model,
    config=_config,
    modules={
        **DECODER_MODULES,
        **QK_NORMS,
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    norm_offset=1.0,
    dtype="bfloat16",  # its activations leave the range of float16
)
