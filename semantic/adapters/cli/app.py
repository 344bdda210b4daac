"""Puts the commands together. Exit codes: 0 fine, 1 failed, 2 wrong usage."""

from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from semantic.adapters.cli import agent, cache, doctor, experiment, generate, model, top
from semantic.adapters.cli.output import complain
from semantic.adapters.cli.services import Services
from semantic.domain.errors import InvalidSettingError, SemanticError

Register = Callable[[typer.Typer, Services], None]

COMMANDS: tuple[Register, ...] = (
    generate.register,
    agent.register,
    model.register,
    cache.register,
    doctor.register,
    top.register,
    experiment.register,
)
"""One ``register(app, services)`` per file in this package: a new command is one file and one line here."""


class _ErrorsAsOneLine(TyperGroup):
    """Our own errors are told in a line, without a traceback; anything else is a defect and shows where."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SemanticError as exc:
            complain(str(exc))
            raise typer.Exit(2 if isinstance(exc, InvalidSettingError) else 1) from exc


def build_app(services: Services) -> typer.Typer:
    """The application that the console script ``semantic`` runs."""
    app = typer.Typer(
        name="semantic",
        cls=_ErrorsAsOneLine,
        help="A KV-cache block-pool batch engine on MLX: many agents, one local model.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def main(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_version)
        ] = False,
    ) -> None:
        """A KV-cache block-pool batch engine on MLX: many agents, one local model."""

    for register in COMMANDS:
        register(app, services)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"semantic-kv {metadata.version('semantic-kv')}")
        raise typer.Exit
