"""``semantic cache ls | stats | verify | clear``."""

from pathlib import Path
from typing import Any

import pytest
from stored_blocks import CONTEXT, chain, names, record

from semantic.adapters.storage.disk_store import DiskStore

SHORT = CONTEXT[:12]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with one agent on three blocks."""
    store = DiskStore(tmp_path / "kv")
    blocks = chain([1], [2], [3])
    store.save(blocks)
    store.save_agent(record(), names(blocks))
    store.close()
    return tmp_path / "kv"


def file_of(folder: Path, index: int) -> Path:
    digits = names(chain([1], [2], [3]))[index].hex()
    return folder / "blocks" / digits[:2] / f"{digits}.safetensors"


def test_ls_shows_agents_and_what_each_context_takes(cli: Any, folder: Path) -> None:
    assert cli("cache", "ls", "--store", str(folder)).out == (
        "namespace  name   model  tokens  turns  blocks  updated\n"
        "default    alice  tiny   3       1      3       2026-11-26T10:00:00+00:00\n"
        "\n"
        "context       blocks  bytes\n"
        f"{SHORT}  3       13,440\n"
    )
    assert cli("cache", "ls", "--store", str(folder), "--json").json == {
        "agents": [
            {
                "namespace": "default",
                "name": "alice",
                "model": "tiny",
                "tokens": 3,
                "turns": 1,
                "blocks": 3,
                "updated": "2026-11-26T10:00:00+00:00",
            }
        ],
        "contexts": [{"context": CONTEXT, "blocks": 3, "bytes": 13440}],
    }


def test_stats_counts(cli: Any, folder: Path) -> None:
    facts = cli("cache", "stats", "--store", str(folder), "--json").json
    assert facts == {"blocks": 3, "bytes": 13440, "agents": 1, "budget_bytes": None}
    assert "budget  unlimited\n" in cli("cache", "stats", "--store", str(folder)).out


def test_the_store_of_the_settings_is_taken_if_none_is_named(cli: Any, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEMANTIC_STORE", str(folder))
    assert cli("cache", "stats", "--json").json["blocks"] == 3


def test_verify_of_a_whole_store_is_code_0(cli: Any, folder: Path) -> None:
    outcome = cli("cache", "verify", "--store", str(folder))
    assert (outcome.code, outcome.out, outcome.err) == (0, "3 blocks read, 0 damaged\n", "")


def test_verify_names_each_damaged_block_changes_nothing_and_is_code_1(cli: Any, folder: Path) -> None:
    path = file_of(folder, 1)
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        outcome = cli("cache", "verify", "--store", str(folder))
        assert (outcome.code, outcome.out) == (1, "3 blocks read, 1 damaged\n")
        assert f"{path}: it has 4479 bytes where 4480 were written" in outcome.err
    outcome = cli("cache", "verify", "--store", str(folder), "--json")
    assert outcome.code == 1
    assert [damaged["path"] for damaged in outcome.json["damaged"]] == [str(path)]


def test_clear_asks_first(cli: Any, folder: Path) -> None:
    outcome = cli("cache", "clear", "--store", str(folder))
    assert outcome.code == 1
    assert "Erase 3 blocks (13.4 KB) and 1 agents for good?" in outcome.err
    assert file_of(folder, 0).exists()


def test_clear_with_yes_erases_all(cli: Any, folder: Path) -> None:
    outcome = cli("cache", "clear", "--yes", "--store", str(folder))
    assert (outcome.code, outcome.out) == (0, "erased 3 blocks and 1 agents\n")
    assert not file_of(folder, 0).exists()
    assert cli("cache", "stats", "--store", str(folder), "--json").json["agents"] == 0


def test_a_folder_without_a_store_is_an_error_and_stays_as_it_is(cli: Any, tmp_path: Path) -> None:
    outcome = cli("cache", "ls", "--store", str(tmp_path / "typo"))
    assert (outcome.code, outcome.err) == (1, f"semantic: there is no store in {tmp_path / 'typo'}\n")
    assert not (tmp_path / "typo").exists()


def test_a_store_in_use_is_one_line_that_names_the_owner(cli: Any, folder: Path) -> None:
    store = DiskStore(folder)
    outcome = cli("cache", "ls", "--store", str(folder))
    store.close()
    assert outcome.code == 1
    assert "is in use by process" in outcome.err
