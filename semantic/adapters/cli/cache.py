"""``semantic cache``: what the store on disk holds, whether it is whole, and a way to empty it."""

from typing import Annotated

import typer

from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.cli.services import Services
from semantic.adapters.cli.stores import Store, opened_store
from semantic.application.ports.block_store import BlockReport, StoredAgent
from semantic.domain.value_objects import format_size

_AGENT_COLUMNS = ("namespace", "name", "model", "tokens", "turns", "blocks", "updated")
_DIGITS = 12  # of a context's digest, for people
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def register(app: typer.Typer, services: Services) -> None:
    """Add ``cache ls``, ``cache stats``, ``cache verify`` and ``cache clear``."""
    group = typer.Typer(help="Look into the store of caches and agents, verify it, empty it.", no_args_is_help=True)
    app.add_typer(group, name="cache")

    @group.command("ls")
    def list_agents(store: Store = None, as_json: JsonFlag = False) -> None:
        """The agents, and what is kept for each context: a model with a way to compute it."""
        with opened_store(services, store) as opened:
            agents, contexts = [_agent(agent) for agent in opened.agents()], opened.contexts()
        if as_json:
            print_json({"agents": agents, "contexts": contexts})
            return
        print_table(_AGENT_COLUMNS, [[str(agent[column]) for column in _AGENT_COLUMNS] for agent in agents])
        typer.echo()
        rows = [(found.context[:_DIGITS], f"{found.blocks:,}", f"{found.bytes:,}") for found in contexts]
        print_table(("context", "blocks", "bytes"), rows)

    @group.command()
    def stats(store: Store = None, as_json: JsonFlag = False) -> None:
        """Counts and bytes."""
        with opened_store(services, store) as opened:
            found = opened.stats()
        if as_json:
            print_json(found)
            return
        budget = "unlimited" if found.budget_bytes is None else format_size(found.budget_bytes)
        rows = [("blocks", f"{found.blocks:,}"), ("bytes", f"{found.bytes:,}"), ("agents", f"{found.agents:,}")]
        print_table(("fact", "value"), [*rows, ("budget", budget)])

    @group.command()
    def verify(store: Store = None, as_json: JsonFlag = False) -> None:
        """Read every block and compare it with what was written. Code 1 if one is damaged. Changes nothing."""
        with opened_store(services, store) as opened:
            reports = list(opened.verify())
        damaged = [report for report in reports if report.damage]
        if as_json:
            print_json({"blocks": len(reports), "damaged": [_damage(report) for report in damaged]})
        else:
            typer.echo(f"{len(reports):,} blocks read, {len(damaged):,} damaged")
            for report in damaged:
                complain(f"{report.path}: {report.damage}")
        if damaged:
            raise typer.Exit(1)

    @group.command()
    def clear(store: Store = None, yes: Yes = False, as_json: JsonFlag = False) -> None:
        """Erase every block and every agent."""
        with opened_store(services, store) as opened:
            found = opened.stats()
            if not yes:
                what = f"{found.blocks:,} blocks ({format_size(found.bytes)}) and {found.agents:,} agents"
                typer.confirm(f"Erase {what} for good?", abort=True, err=True)
            opened.clear()
        if as_json:
            print_json(found)
        else:
            typer.echo(f"erased {found.blocks:,} blocks and {found.agents:,} agents")


def _agent(agent: StoredAgent) -> dict[str, str | int]:
    record = agent.record
    facts = (record.namespace, record.name, record.model_name, len(record.token_ids), record.turns, len(agent.blocks))
    return dict(zip(_AGENT_COLUMNS, (*facts, record.updated_at), strict=True))


def _damage(report: BlockReport) -> dict[str, str]:
    return {"hash": report.hash.hex(), "path": report.path, "damage": report.damage}
