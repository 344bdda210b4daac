"""``semantic top``."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from snapshots import snapshot

from semantic.adapters.cli.top import _watch, render
from semantic.adapters.live.folder_board import FolderBoard

NOW = datetime(2026, 11, 26, 12, 12, 31, tzinfo=UTC)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderBoard:
    monkeypatch.setenv("SEMANTIC_LIVE_FOLDER", str(tmp_path / "live"))
    return FolderBoard(tmp_path / "live")


def text_of(*snapshots: Any) -> str:
    console = Console(width=120, highlight=False)
    with console.capture() as capture:
        console.print(render(snapshots, NOW))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_it_says_of_each_engine_what_it_does() -> None:
    assert text_of(snapshot("4242-1")) == (
        "4242-1  SmolLM2-135M  working, open for 12 min\n"
        "  requests        3 running, 5 waiting (2 in the background, 1 preempted), 1,200 finished\n"
        "  speed           71.2 tokens/s\n"
        "  first token     310 / 500 / 1,200 ms (p50 / p90 / p99 of 1,000)\n"
        "  between tokens  68 / 80 / 140 ms (p50 / p90 / p99 of 10,000)\n"
        "  memory          40 MB in use, 50 MB cached, 10 MB free, 12 blocks evicted\n"
        "  prompts         60% from memory, 10% from the store, 30% computed\n"
        "  store           1.2 GB in 340 blocks, 8 agents, 2.1 MB to be written, 0.4 s behind\n"
    )


def test_an_engine_that_has_done_nothing_yet_and_has_no_store_says_so() -> None:
    new = snapshot(
        "1-1", running=0, waiting=0, prompt_tokens=0, ttft_s=None, token_gap_s=None, tokens_per_s=0.0, store=None
    )
    lines = text_of(new).splitlines()
    assert lines[0] == "1-1  SmolLM2-135M  idle, open for 12 min"
    assert lines[3:5] == ["  first token     none yet", "  between tokens  none yet"]
    assert lines[6] == "  prompts         none yet"
    assert len(lines) == 7


def test_a_name_with_brackets_is_shown_as_it_is() -> None:
    assert "[bold]1-1  SmolLM2" in text_of(snapshot("[bold]1-1"))


def test_the_live_view_looks_again_and_again_until_it_is_interrupted(
    board: FolderBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        looks.append(len(board.snapshots()))
        if len(looks) == 1:
            board.publish(snapshot("4242-2"))
        elif len(looks) == 2:
            board.withdraw("4242-1")
            board.withdraw("4242-2")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    board.publish(snapshot("4242-1"))
    _watch(board, 0.5)
    assert looks == [1, 2, 0]


def test_printed_once_it_shows_every_engine(cli: Any, board: FolderBoard) -> None:
    board.publish(snapshot("4242-1"))
    board.publish(snapshot("4242-2"))
    outcome = cli("top", "--once")
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split("  ")[0] for line in outcome.out.splitlines() if "SmolLM2" in line] == ["4242-1", "4242-2"]


def test_where_standard_output_is_no_terminal_it_prints_once(cli: Any, board: FolderBoard) -> None:
    board.publish(snapshot("4242-1"))
    assert cli("top").out == cli("top", "--once").out


def test_for_machines_there_is_one_document_with_what_follows_from_the_counts(cli: Any, board: FolderBoard) -> None:
    board.publish(snapshot("4242-1"))
    [engine] = cli("top", "--once", "--json").json
    assert (engine["engine"], engine["model"]) == ("4242-1", "SmolLM2-135M")
    assert engine["stats"]["token_gap_s"] == {"count": 10_000, "p50": 0.068, "p90": 0.08, "p99": 0.14}
    assert engine["stats"]["tier_bytes"] == {
        "live": 40_000_000,
        "resident": 50_000_000,
        "store": 1_200_000_000,
        "pending_writes": 2_100_000,
    }
    assert engine["stats"]["pool_bytes_free"] == 10_000_000
    assert engine["stats"]["hit_rates"]["memory"] == 0.6


def test_where_no_engine_runs_it_says_so_and_is_code_1(cli: Any, board: FolderBoard) -> None:
    for arguments in (("top",), ("top", "--once")):
        outcome = cli(*arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert "no engine is running on this machine" in outcome.err
    outcome = cli("top", "--once", "--json")
    assert (outcome.code, outcome.json) == (1, [])


def test_its_help_says_what_is_shown_and_when_it_fails(cli: Any) -> None:
    words = " ".join(cli("top", "--help").out.split())
    assert "time to the first token" in words
    assert "Exit code 1 if no engine is running" in words
