"""``semantic generate`` and ``semantic chat``."""

from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from semantic.adapters.cli.output import JsonFlag, complain, print_json
from semantic.adapters.cli.services import Services
from semantic.domain.errors import SemanticError

Model = Annotated[str | None, typer.Option("--model", help="A known name, a folder, a .gguf file, or a hub id.")]
AdapterPath = Annotated[
    Path | None, typer.Option("--adapter-path", help="Folder of a LoRA adapter, as mlx_lm.lora writes it.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-m", help="New tokens at most.")]
Temp = Annotated[float, typer.Option("--temp", help="0 is greedy.")]
TopP = Annotated[float, typer.Option("--top-p", help="Nucleus sampling; 0 or 1 is off.")]
MinP = Annotated[float, typer.Option("--min-p", help="Least share of the best token's probability; 0 is off.")]
TopK = Annotated[int, typer.Option("--top-k", help="Only the k best tokens; 0 is off.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampled output repeatable.")]
Memory = Annotated[str | None, typer.Option("--memory", help="Budget for KV blocks, as 1GB or 1GiB.")]
Exactness = Annotated[str | None, typer.Option("--exactness", help="token (fast) or bit (mlx_lm's own operations).")]
MaxNumSeqs = Annotated[int | None, typer.Option("--max-num-seqs", help="Sequences that decode together.")]
KVBits = Annotated[str | None, typer.Option("--kv-bits", help="8, 8/4 or 4: quantise keys / values as computed.")]
KVGroupSize = Annotated[int | None, typer.Option("--kv-group-size", help="Elements that share a scale: 32, 64 or 128.")]
KVAtRest = Annotated[str | None, typer.Option("--kv-at-rest", help="exact, 8, 8/4 or 4: bits of blocks at rest.")]
PromptLookup = Annotated[
    int | None, typer.Option("--prompt-lookup-num-tokens", help="Tokens drafted from the context at most; 0 is off.")
]
PrefillStepSize = Annotated[int | None, typer.Option("--prefill-step-size", help="Prompt tokens per prefill chunk.")]


def register(app: typer.Typer, services: Services) -> None:
    """Add ``generate`` and ``chat``."""

    @app.command()
    def generate(
        prompts: Annotated[list[str], typer.Argument(help="One prompt or several, which then run as a batch.")],
        model: Model = None,
        adapter_path: AdapterPath = None,
        max_tokens: MaxTokens = 256,
        temp: Temp = 0.0,
        top_p: TopP = 0.0,
        min_p: MinP = 0.0,
        top_k: TopK = 0,
        seed: Seed = None,
        stop: Annotated[list[str] | None, typer.Option("--stop", help="Stop before this text; may be given again.")] = (
            None
        ),
        memory: Memory = None,
        exactness: Exactness = None,
        max_num_seqs: MaxNumSeqs = None,
        prefill_step_size: PrefillStepSize = None,
        kv_bits: KVBits = None,
        kv_group_size: KVGroupSize = None,
        kv_at_rest: KVAtRest = None,
        prompt_lookup_num_tokens: PromptLookup = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Complete a prompt, as mlx_lm.generate would; several prompts run as one batch."""
        settings = services.settings(
            model=model,
            adapter_path=adapter_path,
            memory=memory,
            exactness=exactness,
            max_num_seqs=max_num_seqs,
            prefill_step_size=prefill_step_size,
            kv_bits=kv_bits,
            kv_group_size=kv_group_size,
            kv_at_rest=kv_at_rest,
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        )
        sampling: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temp": temp,
            "top_p": top_p,
            "min_p": min_p,
            "top_k": top_k,
            "seed": seed,
            "stop": tuple(stop or ()),
        }
        with services.open_engine(settings) as engine:
            if as_json:
                print_json([_plain(done) for done in engine.batch_generate(prompts, **sampling)])
            elif len(prompts) == 1:
                show(engine.stream(prompts[0], **sampling))
            else:
                for prompt, done in zip(prompts, engine.batch_generate(prompts, **sampling), strict=True):
                    typer.secho(prompt, bold=True)
                    typer.echo(done.text)

    @app.command()
    def chat(
        model: Model = None,
        adapter_path: AdapterPath = None,
        system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
        max_tokens: MaxTokens = 512,
        temp: Temp = 0.0,
        top_p: TopP = 0.0,
        seed: Seed = None,
        memory: Memory = None,
        kv_bits: KVBits = None,
        kv_group_size: KVGroupSize = None,
        kv_at_rest: KVAtRest = None,
        prompt_lookup_num_tokens: PromptLookup = None,
    ) -> None:
        """Talk to the model. An empty line, Ctrl-D or Ctrl-C ends the conversation."""
        history = [{"role": "system", "content": system}] if system else []
        settings = services.settings(
            model=model,
            adapter_path=adapter_path,
            memory=memory,
            kv_bits=kv_bits,
            kv_group_size=kv_group_size,
            kv_at_rest=kv_at_rest,
            prompt_lookup_num_tokens=prompt_lookup_num_tokens,
        )
        with services.open_engine(settings) as engine:
            while message := ask():
                history.append({"role": "user", "content": message})
                try:
                    deltas = engine.stream(history, max_tokens=max_tokens, temp=temp, top_p=top_p, seed=seed)
                    history.append({"role": "assistant", "content": show(deltas)})
                except SemanticError as error:
                    history.pop()
                    complain(str(error))


def ask() -> str:
    """A line from whoever sits there; empty when they leave."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        return ""


def show(deltas: Any) -> str:
    """Print deltas as they come, and return their text."""
    text = ""
    for delta in deltas:
        typer.echo(delta.text, nl=False)
        text += delta.text
    typer.echo()
    return text


def _plain(completion: Any) -> dict[str, Any]:
    return attrs.asdict(completion) | {"finish_reason": str(completion.finish_reason)}
