"""``--adapter-path`` reaches whatever opens an engine."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from semantic.domain.errors import AdapterError


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "Hi"),
        ("chat",),
        ("agent", "chat", "alice", "--store", "kv"),
        ("agent", "import", "file", "--store", "kv"),
    ],
    ids=" ".join,
)
def test_the_option_is_the_setting(cli: Any, arguments: tuple[str, ...]) -> None:
    seen: list[Any] = []

    def open_engine(settings: Any) -> Any:
        seen.append(settings.adapter_path)
        raise AdapterError("there is no folder lora for an adapter")

    outcome = type(cli)(attrs.evolve(cli.services, open_engine=open_engine))(*arguments, "--adapter-path", "lora")
    assert (outcome.code, outcome.err) == (1, "semantic: there is no folder lora for an adapter\n")
    assert seen == [Path("lora")]
