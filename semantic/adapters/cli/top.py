"""``semantic top``: what the engines of this machine are doing."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import attrs
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from semantic.adapters.cli.output import JsonFlag, complain, print_json
from semantic.adapters.cli.services import Services
from semantic.application.engine_stats import EngineStats
from semantic.application.ports.live_board import EngineSnapshot, LiveBoard
from semantic.domain.value_objects import format_size
from semantic.domain.value_objects.percentiles import Percentiles

_NOTHING = "no engine is running on this machine, or none that tells (SEMANTIC_LIVE_STATS, SEMANTIC_LIVE_FOLDER)"
_HELP = "\n\n".join(
    (
        "What the engines of this machine are doing: a live view, until Ctrl-C.",
        "Every process that has an engine open, from Python or by a command, tells once a second while "
        "it works. Only engines of the same user are seen.",
        "Shown are requests running, waiting and preempted; tokens per second over the last 5 s; the time to the first "
        "token of the last 1,000 requests and the last 10,000 gaps between tokens, as p50 / p90 / p99; the block pool; "
        "where prompts came from; the store, and how far writing to it is behind.",
        "Where standard output is no terminal it prints once. Exit code 1 if no engine is running.",
    )
)


def register(app: typer.Typer, services: Services) -> None:
    """Add ``top``."""

    @app.command(help=_HELP)
    def top(
        once: Annotated[bool, typer.Option("--once", help="Print once and leave.")] = False,
        interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")] = 1.0,
        as_json: JsonFlag = False,
    ) -> None:
        board = services.live_board(services.settings())
        snapshots = board.snapshots()
        if as_json:
            print_json([facts_of(snapshot) for snapshot in snapshots])
        elif snapshots and (once or not sys.stdout.isatty()):
            Console(highlight=False).print(render(snapshots, datetime.now(UTC)))
        elif snapshots:
            _watch(board, interval)
        if not snapshots:
            complain(_NOTHING)
            raise typer.Exit(1)


def _watch(board: LiveBoard, interval: float) -> None:
    def look() -> RenderableType:
        return render(board.snapshots(), datetime.now(UTC))

    try:
        with Live(look(), console=Console(highlight=False), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(interval)
                live.update(look(), refresh=True)
    except KeyboardInterrupt:
        return


def facts_of(snapshot: EngineSnapshot) -> dict[str, Any]:
    """A snapshot with what follows from it, for machines."""
    stats = snapshot.stats
    derived = {
        "tier_bytes": attrs.asdict(stats.tier_bytes),
        "pool_bytes_free": stats.pool_bytes_free,
        "hit_rates": None if stats.hit_rates is None else attrs.asdict(stats.hit_rates),
    }
    facts: dict[str, Any] = attrs.asdict(snapshot)
    facts["stats"] |= derived
    return facts


def render(snapshots: Sequence[EngineSnapshot], now: datetime) -> RenderableType:
    """One paragraph for each engine."""
    if not snapshots:
        return Text("no engine is running any more")
    return Group(*(_paragraph(snapshot, now) for snapshot in snapshots))


def _paragraph(snapshot: EngineSnapshot, now: datetime) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for what, value in describe(snapshot.stats):
        table.add_row(Text("  " + what, style="dim"), Text(value))
    return Group(Text(_title(snapshot, now), style="bold"), table, Text())


def _title(snapshot: EngineSnapshot, now: datetime) -> str:
    since = _ago(now - datetime.fromisoformat(snapshot.opened_at))
    what = "working" if snapshot.stats.is_busy else "idle"
    return f"{snapshot.engine}  {snapshot.model}  {what}, open for {since}"


def describe(stats: EngineStats) -> list[tuple[str, str]]:
    """What a person wants to know, line by line."""
    tiers, hits = stats.tier_bytes, stats.hit_rates
    lines = [
        (
            "requests",
            f"{stats.running} running, {stats.waiting} waiting ({stats.waiting_in_background} in the background, "
            f"{stats.preempted} preempted), {stats.finished_requests:,} finished",
        ),
        ("speed", f"{stats.tokens_per_s:.1f} tokens/s"),
        ("first token", _milliseconds(stats.ttft_s)),
        ("between tokens", _milliseconds(stats.token_gap_s)),
        (
            "memory",
            f"{format_size(tiers.live)} in use, {format_size(tiers.resident)} cached, "
            f"{format_size(stats.pool_bytes_free)} free, {stats.evicted_blocks:,} blocks evicted",
        ),
        (
            "prompts",
            "none yet"
            if hits is None
            else f"{hits.memory:.0%} from memory, {hits.store:.0%} from the store, {hits.computed:.0%} computed",
        ),
    ]
    if stats.store is not None:
        stored, store = stats.store.store, stats.store
        lines.append(
            (
                "store",
                f"{format_size(stored.bytes)} in {stored.blocks:,} blocks, {stored.agents:,} agents, "
                f"{format_size(store.pending_bytes)} to be written, {store.behind_s:.1f} s behind",
            )
        )
    return lines


def _milliseconds(percentiles: Percentiles | None) -> str:
    if percentiles is None:
        return "none yet"
    values = (percentiles.p50, percentiles.p90, percentiles.p99)
    return " / ".join(f"{value * 1e3:,.0f}" for value in values) + f" ms (p50 / p90 / p99 of {percentiles.count:,})"


def _ago(passed: timedelta) -> str:
    seconds = max(int(passed.total_seconds()), 0)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
