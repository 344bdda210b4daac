"""``semantic agent``: agents whose memory lies in the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from semantic.adapters.cli.generate import ask, show
from semantic.adapters.cli.option_groups import grouped
from semantic.adapters.cli.options import ChatSamplingFlags, ChatTemplateConfig, EngineFlags
from semantic.adapters.cli.output import JsonFlag, complain, print_json, print_table
from semantic.adapters.cli.services import Services
from semantic.adapters.cli.stores import Store, chosen, existing, opened_store
from semantic.application.agent import Agent
from semantic.domain.errors import AgentNotFoundError, SemanticError
from semantic.domain.value_objects import AgentRecord
from semantic.domain.value_objects.cache_context import DEFAULT_NAMESPACE
from semantic.settings import Settings

Name = Annotated[str, typer.Argument(help="The agent's name.")]
Namespace = Annotated[str, typer.Option("--namespace", help="Whose agents: namespaces share nothing.")]
System = Annotated[str | None, typer.Option("--system", help="The system message of a new agent.")]
At = Annotated[
    str | None, typer.Option("--at", help="A checkpoint's label, or so many entries of history; below 0 from its end.")
]
_COLUMNS = ("namespace", "name", "model", "kind", "tokens", "turns", "updated")


def register(app: typer.Typer, services: Services) -> None:
    """Add ``agent ls``, ``chat``, ``show``, ``fork``, ``export``, ``import`` and ``forget``."""
    group = typer.Typer(help="Agents: chats whose memory is kept in the store.", no_args_is_help=True)
    app.add_typer(group, name="agent")

    @group.command("ls")
    def list_agents(
        store: Store = None,
        namespace: Annotated[str | None, typer.Option("--namespace", help="Only those of this one.")] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """The agents in the store, of whatever model."""
        rows = [_row(record) for record in _records(services, store) if namespace in (None, record.namespace)]
        if as_json:
            print_json(rows)
        else:
            print_table(_COLUMNS, [[str(row[column]) for column in _COLUMNS] for row in rows])

    @group.command("show")
    def show_agent(
        name: Name, store: Store = None, namespace: Namespace = DEFAULT_NAMESPACE, as_json: JsonFlag = False
    ) -> None:
        """An agent's history, and the checkpoints in it."""
        record = _found(_records(services, store), name, namespace)
        if as_json:
            template = {"tools": record.chat.tools, "chat_template_kwargs": record.chat.template_kwargs}
            print_json(_row(record) | template | {"history": record.history, "checkpoints": record.checkpoints})
        else:
            _print_history(record)

    @group.command()
    @grouped
    def chat(
        name: Name,
        engine_flags: EngineFlags,
        sampling: ChatSamplingFlags,
        system: System = None,
        chat_template_config: ChatTemplateConfig = None,
        namespace: Namespace = DEFAULT_NAMESPACE,
    ) -> None:
        """Talk to an agent, a new one or one that remembers. An empty line, Ctrl-D or Ctrl-C ends the conversation."""
        settings = engine_flags.settings(services)
        chosen(settings)
        with services.open_engine(settings) as engine:
            agent = engine.agent(name, system=system, chat_template_kwargs=chat_template_config, namespace=namespace)
            given = sampling.keywords(engine.tokenizer)
            while message := ask():
                try:
                    show(agent.stream(message, **given))
                except SemanticError as error:
                    complain(str(error))

    @group.command()
    @grouped
    def fork(
        name: Name,
        new: Annotated[str, typer.Argument(help="The new agent's name.")],
        engine_flags: EngineFlags,
        at: At = None,
        namespace: Namespace = DEFAULT_NAMESPACE,
        as_json: JsonFlag = False,
    ) -> None:
        """A new agent that knows what this one knows, or knew at a point. Nothing is copied."""
        with _agent(services, engine_flags.settings(services), namespace, name) as agent:
            _report(agent.fork(new, None if at is None else _point(agent, at)), "forked", as_json)

    @group.command()
    @grouped
    def export(
        name: Name,
        file: Annotated[Path, typer.Argument(help="The file to write.")],
        engine_flags: EngineFlags,
        namespace: Namespace = DEFAULT_NAMESPACE,
        as_json: JsonFlag = False,
    ) -> None:
        """Write an agent with its memory into one file, for another machine with the same model."""
        with _agent(services, engine_flags.settings(services), namespace, name) as agent:
            agent.export(file)
            _report(agent, "exported", as_json, file=file, bytes=file.stat().st_size)

    @group.command("import")
    @grouped
    def import_agent(
        file: Annotated[Path, typer.Argument(help="A file that semantic agent export wrote.")],
        engine_flags: EngineFlags,
        name: Annotated[str | None, typer.Option("--name", help="Another name than the one in the file.")] = None,
        namespace: Namespace = DEFAULT_NAMESPACE,
        as_json: JsonFlag = False,
    ) -> None:
        """Bring an agent into the store."""
        settings = engine_flags.settings(services)
        chosen(settings)
        with services.open_engine(settings) as engine:
            _report(engine.import_agent(file, name=name, namespace=namespace), "imported", as_json)

    @group.command()
    @grouped
    def forget(
        name: Name,
        engine_flags: EngineFlags,
        namespace: Namespace = DEFAULT_NAMESPACE,
        yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
        as_json: JsonFlag = False,
    ) -> None:
        """Erase an agent, and of its memory whatever no other agent refers to."""
        if not yes:
            record = _found(_records(services, engine_flags.store), name, namespace)
            typer.confirm(f"Forget {name!r} with its {record.turns} turns for good?", abort=True, err=True)
        with _agent(services, engine_flags.settings(services), namespace, name) as agent:
            agent.forget()
            _report(agent, "forgot", as_json)


def _records(services: Services, store: Path | None) -> list[AgentRecord]:
    with opened_store(services, store) as opened:
        return [stored.record for stored in opened.agents()]


@contextmanager
def _agent(services: Services, settings: Settings, namespace: str, name: str) -> Iterator[Agent]:
    """An agent that must be there; its engine is closed afterwards."""
    with services.open_engine(existing(settings)) as engine:
        _found([agent.record for agent in engine.agents(namespace=namespace)], name, namespace)
        yield engine.agent(name, namespace=namespace)


def _found(records: list[AgentRecord], name: str, namespace: str) -> AgentRecord:
    there = {record.name: record for record in records if record.namespace == namespace}
    if name not in there:
        names = ", ".join(repr(other) for other in there) or "none"
        raise AgentNotFoundError(f"no agent {name!r} in the namespace {namespace!r}; there is {names}")
    return there[name]


def _point(agent: Agent, at: str) -> str | int:
    """A label if the agent has it, else a number if it is one."""
    if at in agent.checkpoints:
        return at
    try:
        return int(at)
    except ValueError:
        return at


def _row(record: AgentRecord) -> dict[str, Any]:
    facts = (record.namespace, record.name, record.model_name, str(record.kind), len(record.token_ids), record.turns)
    return dict(zip(_COLUMNS, (*facts, record.updated_at), strict=True))


def _print_history(record: AgentRecord) -> None:
    for label in _labels(record, 0):
        typer.echo(label)
    for number, entry in enumerate(record.history, 1):
        typer.secho(f"{entry.role}: ", bold=True, nl=False)
        typer.echo(entry.content)
        for label in _labels(record, number):
            typer.echo(label)


def _labels(record: AgentRecord, num_entries: int) -> list[str]:
    return [f"-- {one.label}" for one in record.checkpoints if one.num_entries == num_entries]


def _report(agent: Agent, what: str, as_json: bool, **more: Any) -> None:
    if as_json:
        print_json(_row(agent.record) | more)
    else:
        typer.echo(f"{what} {agent.name}: {len(agent.tokens):,} tokens, {len(agent.history):,} entries of history")
