"""``semantic model``: list, fetch, show."""

from collections import Counter
from typing import Annotated

import attrs
import typer

from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.cli.services import Services
from semantic.adapters.model_sources.describe import describe
from semantic.adapters.model_sources.fingerprint import Fingerprints
from semantic.application.ports.model import ModelProfile

Name = Annotated[str | None, typer.Argument(help="A known name, a folder, a .gguf file, or a hub id such as org/name.")]

Probe = Annotated[bool, typer.Option("--probe", help="Load the model and say which way it runs, and why.")]


def register(app: typer.Typer, services: Services) -> None:
    """Add ``model list``, ``model fetch`` and ``model show``."""
    group = typer.Typer(help="List, fetch and describe models.", no_args_is_help=True)
    app.add_typer(group, name="model")

    @group.command("list")
    def list_models(as_json: JsonFlag = False) -> None:
        """The names that are known without a path or a hub id."""
        catalogue = services.catalogue(services.settings())
        models = [{"name": name, "fetched": catalogue.is_fetched(name)} for name in catalogue.known_names()]
        if as_json:
            print_json(models)
        else:
            print_table(("name", "fetched"), [(str(m["name"]), "yes" if m["fetched"] else "no") for m in models])

    @group.command()
    def fetch(name: Name = None, as_json: JsonFlag = False) -> None:
        """Fetch a model (the one in force if none is named) and print where it lies. Fetched once,
        verified always.
        """
        settings = services.settings(model=name)
        catalogue = services.catalogue(settings)
        if not as_json and not catalogue.is_fetched(settings.model):
            typer.echo(f"fetching {settings.model} ...", err=True)
        path = catalogue.provide(settings.model)
        if as_json:
            print_json({"name": settings.model, "path": path})
        else:
            typer.echo(path)

    @group.command()
    def show(name: Name = None, probe: Probe = False, as_json: JsonFlag = False) -> None:
        """What a model's files say of it, and the fingerprint that stored blocks are named after. Fetches nothing.

        How it is run is found out by trying: --probe loads it and says which way, and why.
        """
        settings = services.settings(model=name)
        catalogue = services.catalogue(settings)
        if not catalogue.is_fetched(settings.model):
            complain(f"{settings.model} is not fetched yet; semantic model fetch {settings.model}")
            raise typer.Exit(1)
        path = catalogue.provide(settings.model)
        fingerprint = Fingerprints.kept_in(settings.model_cache).of(path)
        facts = {**attrs.asdict(describe(path)), "fingerprint": fingerprint}
        if probe:
            with services.open_engine(settings) as engine:
                facts.update(how_it_runs(engine.profile))
        if as_json:
            print_json({"name": settings.model, **facts})
        else:
            rows = [("name", settings.model), *((key, _text(value)) for key, value in facts.items())]
            print_table(("fact", "value"), rows)


def how_it_runs(profile: ModelProfile) -> dict[str, str | int]:
    """Which way a loaded model runs, and why."""
    kinds = Counter(str(layer.kind) for layer in profile.cache_spec.layers)
    windows = sorted({layer.window for layer in profile.cache_spec.layers if layer.window is not None})
    return {
        "caches": ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        "windows": ", ".join(map(str, windows)) or "-",
        "batching": profile.batching,
        "layout": profile.cache_layout,
        "reuse": str(profile.reuse),
        "prefill_chunk": profile.prefill_step_size,
        "because": profile.lane_reason or "-",
    }


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
