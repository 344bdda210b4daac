"""``semantic generate`` and ``semantic chat``."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import attrs
import typer

from semantic.adapters.cli.option_groups import grouped
from semantic.adapters.cli.options import ChatSamplingFlags, ChatTemplateConfig, EngineFlags, SamplingFlags
from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.cli.services import Services
from semantic.application.ports.tokenizer import Tokenizer
from semantic.domain.errors import SemanticError
from semantic.domain.value_objects import Completion, Delta, TokenLogprobs


def register(app: typer.Typer, services: Services) -> None:
    """Add ``generate`` and ``chat``."""

    @app.command()
    @grouped
    def generate(
        prompts: Annotated[list[str], typer.Argument(help="One prompt or several, which then run as a batch.")],
        engine_flags: EngineFlags,
        sampling: SamplingFlags,
        logprobs: Annotated[
            int | None, typer.Option(help="Also print each token's log-probability and so many alternatives.")
        ] = None,
        chat_template_config: ChatTemplateConfig = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Complete a prompt, as mlx_lm.generate would; several prompts run as one batch.

        With --chat-template-config each prompt is what a user says, and goes through the chat template.
        """
        with services.open_engine(engine_flags.settings(services)) as engine:
            given = sampling.keywords(engine.tokenizer) | {"logprobs": logprobs}
            asked: list[Any] = list(prompts)
            if chat_template_config is not None:
                asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
                given["chat_template_kwargs"] = chat_template_config
            if as_json:
                print_json([_plain(done) for done in engine.batch_generate(asked, **given)])
            elif len(prompts) == 1:
                show(engine.stream(asked[0], **given), engine.tokenizer)
            else:
                for prompt, done in zip(prompts, engine.batch_generate(asked, **given), strict=True):
                    typer.secho(prompt, bold=True)
                    typer.echo(done.text)
                    show_logprobs(done.logprobs or (), engine.tokenizer)

    @app.command()
    @grouped
    def chat(
        engine_flags: EngineFlags,
        sampling: ChatSamplingFlags,
        system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
        chat_template_config: ChatTemplateConfig = None,
    ) -> None:
        """Talk to the model. An empty line, Ctrl-D or Ctrl-C ends the conversation."""
        history = [{"role": "system", "content": system}] if system else []
        with services.open_engine(engine_flags.settings(services)) as engine:
            given = sampling.keywords(engine.tokenizer) | {"chat_template_kwargs": chat_template_config}
            while message := ask():
                history.append({"role": "user", "content": message})
                try:
                    history.append({"role": "assistant", "content": show(engine.stream(history, **given))})
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


def show(deltas: Iterable[Delta], tokenizer: Tokenizer | None = None) -> str:
    """Print deltas as they come, then their log-probabilities if they have any; return their text."""
    text = ""
    logprobs: list[TokenLogprobs] = []
    for delta in deltas:
        typer.echo(delta.text, nl=False)
        text += delta.text
        logprobs += delta.logprobs or ()
    typer.echo()
    show_logprobs(logprobs, tokenizer)
    return text


def show_logprobs(logprobs: Sequence[TokenLogprobs], tokenizer: Tokenizer | None) -> None:
    """A line for each token, with its alternatives."""

    def cell(token_id: int, logprob: float) -> str:
        text = "" if tokenizer is None else f" {tokenizer.decode([token_id])!r}"
        return f"{token_id}{text} {logprob:.3f}"

    if logprobs:
        columns = ("token", *(f"#{place}" for place in range(1, 1 + max(len(one.top) for one in logprobs))))
        rows = [[cell(one.token_id, one.logprob), *(cell(*other) for other in one.top)] for one in logprobs]
        print_table(columns, rows)


def _plain(completion: Completion) -> dict[str, Any]:
    return attrs.asdict(completion) | {"finish_reason": str(completion.finish_reason)}
