"""``semantic doctor``: is this installation in order?"""

import typer

from semantic.adapters.cli.output import JsonFlag, print_json
from semantic.adapters.cli.services import Services
from semantic.adapters.doctor import Finding, examine

_MARKS = {"ok": ("ok  ", typer.colors.GREEN), "warn": ("warn", typer.colors.YELLOW), "fail": ("FAIL", typer.colors.RED)}


def register(app: typer.Typer, services: Services) -> None:
    """Add ``doctor``."""

    @app.command()
    def doctor(as_json: JsonFlag = False) -> None:
        """Show versions, device, BLAS, compiler, model cache and memory, with a hint for what is wrong.

        Exits with 1 if something that is needed is broken; a warning is no failure.
        """
        settings = services.settings()
        findings = examine(
            lambda: services.prepare(settings), services.catalogue(settings), settings.model, settings.model_cache
        )
        healthy = all(finding.state != "fail" for finding in findings)
        if as_json:
            print_json({"healthy": healthy, "findings": findings})
        else:
            for finding in findings:
                _print(finding)
        if not healthy:
            raise typer.Exit(1)


def _print(finding: Finding) -> None:
    mark, colour = _MARKS[finding.state]
    typer.echo(f"{typer.style(mark, fg=colour)} {finding.name + ':':<14} {finding.value}")
    if finding.hint:
        typer.echo(f"     {'':<14} {finding.hint}")
