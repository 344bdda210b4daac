"""``semantic agent ls | show | chat | fork | export | import | forget``, on a store on disk and a fake model."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from semantic.adapters.fakes import FakeModel, FakeTokenizer, fake_engine, fake_tier
from semantic.adapters.storage.agent_archive import FileArchive
from semantic.adapters.storage.disk_store import DiskStore

REPLY = [*FakeTokenizer().encode("Yes."), 0]


def always_yes(token_ids: Any) -> int:
    """A model that says ``Yes.`` to everything."""
    said = FakeTokenizer().decode(list(token_ids)).rpartition("<assistant>")[2]
    return REPLY[len(said)]


def open_engine(settings: Any) -> Any:
    tier = None if settings.store is None else fake_tier(DiskStore(settings.store.expanduser()))
    model = FakeModel(choose=always_yes)
    if settings.model == "other":
        model.profile = attrs.evolve(model.profile, name="other", fingerprint="e" * 64)
    return fake_engine(model=model, tier=tier, archive=FileArchive())


@pytest.fixture
def agents(cli: Any) -> Any:
    """The command line with an engine behind it."""
    return type(cli)(attrs.evolve(cli.services, open_engine=open_engine))


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store in which alice said one thing, and bob, who is a fork of hers, another."""
    path = tmp_path / "kv"
    with open_engine(attrs.make_class("Settings", ["store", "model"])(path, "here")) as engine:
        alice = engine.agent("alice", system="Be terse.")
        alice.chat("Is it?")
        alice.checkpoint("asked")
        alice.fork("bob").chat("Sure?")
        engine.agent("alice", namespace="acme")
    return str(path)


def say(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Let someone sit at the terminal, who leaves after these lines."""
    left = iter(lines)
    monkeypatch.setattr("builtins.input", lambda prompt: next(left, ""))


def test_ls_lists_the_agents_of_all_namespaces_or_of_one_and_needs_no_model(cli: Any, store: str) -> None:
    lines = cli("agent", "ls", "--store", store).out.splitlines()
    assert lines[0].split() == ["namespace", "name", "model", "kind", "tokens", "turns", "updated"]
    assert [line.split()[:6] for line in lines[1:]] == [
        ["acme", "alice", "fake", "new", "0", "0"],
        ["default", "alice", "fake", "chat", "44", "1"],
        ["default", "bob", "fake", "chat", "70", "2"],
    ]
    found = cli("agent", "ls", "--store", store, "--namespace", "acme", "--json").json
    assert [(agent["namespace"], agent["name"], agent["turns"]) for agent in found] == [("acme", "alice", 0)]


def test_show_prints_the_history_with_its_checkpoints(cli: Any, store: str) -> None:
    assert cli("agent", "show", "bob", "--store", store).out == (
        "system: Be terse.\nuser: Is it?\nassistant: Yes.\n-- asked\nuser: Sure?\nassistant: Yes.\n"
    )
    facts = cli("agent", "show", "alice", "--store", store, "--json").json
    assert facts["history"][1] == {"role": "user", "content": "Is it?", "end": 40}
    assert facts["checkpoints"] == [{"label": "asked", "num_tokens": 44, "num_entries": 3}]
    assert (facts["tools"], facts["chat_template_kwargs"]) == ([], {})


def test_an_agent_that_is_not_there_is_an_error_that_names_those_there_are(agents: Any, store: str) -> None:
    for arguments in (("show", "carol"), ("fork", "carol", "dave"), ("export", "carol", "file"), ("forget", "carol")):
        outcome = agents("agent", *arguments, "--store", store)
        assert outcome.code == 1
        assert outcome.err == "semantic: no agent 'carol' in the namespace 'default'; there is 'alice', 'bob'\n"
    assert len(agents("agent", "ls", "--store", store, "--json").json) == 3


# -- chat --------------------------------------------------------------------------------------------


def test_chat_remembers_from_one_time_to_the_next(agents: Any, tmp_path: Path, monkeypatch: Any) -> None:
    store = str(tmp_path / "new")
    say(monkeypatch, "Is it?")
    assert agents("agent", "chat", "carol", "--system", "Be terse.", "--store", store).out == "Yes.\n"
    say(monkeypatch, "Still?", "And now?")
    assert agents("agent", "chat", "carol", "--store", store).out == "Yes.\nYes.\n"
    history = agents("agent", "show", "carol", "--store", store, "--json").json["history"]
    assert [entry["content"] for entry in history] == [
        "Be terse.",
        "Is it?",
        "Yes.",
        "Still?",
        "Yes.",
        "And now?",
        "Yes.",
    ]


def test_chat_goes_on_after_a_message_that_is_refused(agents: Any, store: str, monkeypatch: Any) -> None:
    say(monkeypatch, "x" * 5000, "Is it?")
    outcome = agents("agent", "chat", "alice", "--store", store)
    assert (outcome.code, outcome.out) == (0, "Yes.\n")
    assert "semantic: " in outcome.err


def test_chat_with_another_system_message_than_the_agents_is_refused(agents: Any, store: str) -> None:
    outcome = agents("agent", "chat", "alice", "--system", "Be kind.", "--store", store)
    assert outcome.code == 1
    assert "'alice' is there already with the system message 'Be terse.'" in outcome.err


# -- fork --------------------------------------------------------------------------------------------


def test_fork_makes_an_agent_that_knows_as_much(agents: Any, store: str) -> None:
    outcome = agents("agent", "fork", "bob", "carol", "--store", store)
    assert (outcome.code, outcome.out) == (0, "forked carol: 70 tokens, 5 entries of history\n")


@pytest.mark.parametrize("point", ["asked", "3", "-2"])
def test_fork_at_a_label_or_a_count_of_entries(agents: Any, store: str, point: str) -> None:
    outcome = agents("agent", "fork", "bob", "carol", "--at", point, "--store", store, "--json")
    assert (outcome.code, outcome.json["name"], outcome.json["tokens"]) == (0, "carol", 44)
    assert agents("agent", "show", "carol", "--store", store).out.endswith("assistant: Yes.\n-- asked\n")


@pytest.mark.parametrize("point", ["nowhere", "9"])
def test_fork_at_an_unknown_point_is_an_error(agents: Any, store: str, point: str) -> None:
    outcome = agents("agent", "fork", "bob", "carol", "--at", point, "--store", store)
    assert outcome.code == 1
    assert point in outcome.err


# -- export and import -------------------------------------------------------------------------------


def test_an_agent_is_carried_to_another_store_under_another_name(agents: Any, store: str, tmp_path: Path) -> None:
    file, there = tmp_path / "bob.agent", str(tmp_path / "there")
    outcome = agents("agent", "export", "bob", str(file), "--store", store)
    assert (outcome.code, outcome.out) == (0, "exported bob: 70 tokens, 5 entries of history\n")
    outcome = agents("agent", "import", str(file), "--name", "carol", "--store", there, "--namespace", "acme", "--json")
    assert (outcome.json["namespace"], outcome.json["name"], outcome.json["tokens"]) == ("acme", "carol", 70)
    assert [agent["name"] for agent in agents("agent", "ls", "--store", there, "--json").json] == ["carol"]


def test_export_says_how_large_the_file_is(agents: Any, store: str, tmp_path: Path) -> None:
    file = tmp_path / "bob.agent"
    facts = agents("agent", "export", "bob", str(file), "--store", store, "--json").json
    assert (facts["file"], facts["bytes"]) == (str(file), file.stat().st_size)


def test_another_models_file_is_refused_with_both_named(agents: Any, store: str, tmp_path: Path) -> None:
    file = str(tmp_path / "bob.agent")
    agents("agent", "export", "bob", file, "--store", store)
    outcome = agents("agent", "import", file, "--model", "other", "--store", str(tmp_path / "there"))
    assert outcome.code == 1
    assert f"other ({'e' * 64})" in outcome.err
    assert f"fake ({FakeModel().profile.fingerprint})" in outcome.err


def test_what_is_no_agents_file_is_an_error(agents: Any, store: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    outcome = agents("agent", "import", str(tmp_path / "notes.txt"), "--store", store)
    assert outcome.code == 1
    assert "notes.txt is damaged, or no file of an agent" in outcome.err


# -- forget ------------------------------------------------------------------------------------------


def test_forget_asks_first(agents: Any, store: str) -> None:
    outcome = agents("agent", "forget", "bob", "--store", store)
    assert outcome.code == 1
    assert "Forget 'bob' with its 2 turns for good?" in outcome.err
    assert len(agents("agent", "ls", "--store", store, "--json").json) == 3


def test_forget_with_yes_erases_the_agent_and_its_blocks(agents: Any, store: str) -> None:
    before = agents("cache", "stats", "--store", store, "--json").json["blocks"]
    assert agents("agent", "forget", "bob", "--yes", "--store", store).out.startswith("forgot bob: ")
    assert agents("agent", "forget", "alice", "--yes", "--store", store, "--json").json["name"] == "alice"
    left = agents("cache", "stats", "--store", store, "--json").json
    assert (left["agents"], left["blocks"]) == (1, 0)
    assert before > 0


# -- the store ---------------------------------------------------------------------------------------


EVERY_COMMAND = [
    ("ls",),
    ("show", "alice"),
    ("chat", "alice"),
    ("fork", "alice", "bob"),
    ("export", "alice", "file"),
    ("import", "file"),
    ("forget", "alice"),
    ("forget", "alice", "--yes"),
]


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=" ".join)
def test_without_a_store_each_says_how_to_name_one(agents: Any, arguments: tuple[str, ...]) -> None:
    outcome = agents("agent", *arguments)
    assert (outcome.code, outcome.err) == (2, "semantic: no store is set: give --store PATH, or SEMANTIC_STORE\n")


@pytest.mark.parametrize("arguments", [one for one in EVERY_COMMAND if one[0] not in ("chat", "import")], ids=" ".join)
def test_a_store_that_is_not_there_is_an_error_and_is_not_made(
    agents: Any, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    outcome = agents("agent", *arguments, "--store", str(tmp_path / "typo"))
    assert (outcome.code, outcome.err) == (1, f"semantic: there is no store in {tmp_path / 'typo'}\n")
    assert not (tmp_path / "typo").exists()


def test_the_store_of_the_settings_is_taken_if_none_is_named(agents: Any, store: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEMANTIC_STORE", store)
    assert len(agents("agent", "ls", "--json").json) == 3
    assert agents("agent", "fork", "alice", "carol", "--json").json["name"] == "carol"
