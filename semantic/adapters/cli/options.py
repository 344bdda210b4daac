"""The options of commands that open an engine and generate, named as mlx_lm and vLLM name them."""

import json
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer
from attrs import frozen

from semantic.adapters.cli.services import Services
from semantic.application.ports.tokenizer import Tokenizer
from semantic.settings import Settings

OFF = "0 is off."

Model = Annotated[str | None, typer.Option(help="A known name, a folder, a .gguf file, or a hub id.")]


def json_object(text: str) -> dict[str, Any]:
    """What a JSON object says."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"this is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f"this is no JSON object: {text}")
    return value


def biases(text: str) -> dict[int, float]:
    """A JSON object from token ids, which JSON has as text, to numbers."""
    value = json_object(text)
    try:
        return {int(token_id): float(bias) for token_id, bias in value.items()}
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"it goes from token ids to numbers: {error}") from error


@frozen(kw_only=True)
class EngineFlags:
    """Which engine: one option for each setting that people change from call to call."""

    model: Model = None
    adapter_path: Annotated[Path | None, typer.Option(help="Folder of a LoRA adapter, as mlx_lm.lora writes it.")] = (
        None
    )
    store: Annotated[Path | None, typer.Option(help="Folder of the store; the one in the settings by default.")] = None
    memory: Annotated[str | None, typer.Option(help="Budget for KV blocks, as 1GB or 1GiB.")] = None
    exactness: Annotated[str | None, typer.Option(help="token (fast) or bit (mlx_lm's own operations).")] = None
    max_num_seqs: Annotated[int | None, typer.Option(help="Sequences that decode together.")] = None
    prefill_step_size: Annotated[int | None, typer.Option(help="Prompt tokens per prefill chunk.")] = None
    max_token_gap_ms: Annotated[
        float | None,
        typer.Option(help="Longest pause of who runs while a prompt is read; 0 reads whole chunks."),
    ] = None
    prompt_lookup_num_tokens: Annotated[
        int | None, typer.Option(help="Tokens drafted from the context at most; 0 is off.")
    ] = None
    kv_bits: Annotated[str | None, typer.Option(help="8, 8/4 or 4: quantise keys / values as computed.")] = None
    kv_group_size: Annotated[int | None, typer.Option(help="Elements that share a scale: 32, 64 or 128.")] = None
    kv_at_rest: Annotated[str | None, typer.Option(help="exact, 8, 8/4 or 4: bits of blocks at rest.")] = None

    def settings(self, services: Services) -> Settings:
        """These over the environment and files."""
        return services.settings(**attrs.asdict(self))


@frozen(kw_only=True)
class SamplingFlags:
    """How tokens are chosen: fields of SamplingParams."""

    max_tokens: Annotated[int, typer.Option("--max-tokens", "-m", help="New tokens at most.")] = 256
    temp: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0
    top_p: Annotated[float, typer.Option(help="Nucleus sampling; 0 or 1 is off.")] = 0.0
    min_p: Annotated[float, typer.Option(help=f"Least share of the best token's probability; {OFF}")] = 0.0
    top_k: Annotated[int, typer.Option(help=f"Only the k best tokens; {OFF}")] = 0
    xtc_probability: Annotated[float, typer.Option(help=f"How often XTC leaves out the likeliest tokens; {OFF}")] = 0.0
    xtc_threshold: Annotated[float, typer.Option(help="XTC leaves out all but the last above this probability.")] = 0.1
    seed: Annotated[int | None, typer.Option(help="Makes sampled output repeatable.")] = None
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; may be given again.")] = None
    logit_bias: Annotated[
        dict[int, float] | None, typer.Option(parser=biases, metavar="JSON", help="As '{\"198\": -100}', by token id.")
    ] = None
    repetition_penalty: Annotated[float, typer.Option(help=f"Factor against tokens that were there; {OFF}")] = 0.0
    repetition_context_size: Annotated[int, typer.Option(help="Tokens that it looks at; 0 is all.")] = 20
    presence_penalty: Annotated[float, typer.Option(help=f"Taken from tokens that were there; {OFF}")] = 0.0
    presence_context_size: Annotated[int, typer.Option(help="Tokens that it looks at; 0 is all.")] = 20
    frequency_penalty: Annotated[float, typer.Option(help=f"Taken for each time that a token was there; {OFF}")] = 0.0
    frequency_context_size: Annotated[int, typer.Option(help="Tokens that it looks at; 0 is all.")] = 20

    def keywords(self, tokenizer: Tokenizer | None) -> dict[str, Any]:
        """Keyword arguments for whatever generates. XTC spares what it spares in ``mlx_lm.generate``."""
        given = attrs.asdict(self)
        if self.xtc_probability and tokenizer is not None:
            given["xtc_special_tokens"] = {*tokenizer.encode("\n"), *tokenizer.eos_token_ids}
        return given


@frozen(kw_only=True)
class ChatSamplingFlags(SamplingFlags):
    """The same for a conversation, whose replies are longer."""

    max_tokens: Annotated[int, typer.Option("--max-tokens", "-m", help="New tokens at most.")] = 512


ChatTemplateConfig = Annotated[
    dict[str, Any] | None,
    typer.Option(
        "--chat-template-config",
        parser=json_object,
        metavar="JSON",
        help="Arguments for the chat template, as '{\"enable_thinking\": false}'.",
    ),
]
