"""``--kv-bits`` and ``--kv-group-size`` reach whatever opens an engine whose blocks count."""

from typing import Any

import attrs
import pytest

from semantic.domain.errors import UnsupportedPrecisionError


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
def test_the_options_are_the_settings(cli: Any, arguments: tuple[str, ...]) -> None:
    seen: list[Any] = []

    def open_engine(settings: Any) -> Any:
        seen.append((settings.kv_bits, settings.kv_group_size))
        raise UnsupportedPrecisionError("kv_bits must be 8 or 4")

    opened = type(cli)(attrs.evolve(cli.services, open_engine=open_engine))
    outcome = opened(*arguments, "--kv-bits", "4", "--kv-group-size", "32")
    assert (outcome.code, outcome.err) == (1, "semantic: kv_bits must be 8 or 4\n")
    assert seen == [(4, 32)]
    opened(*arguments, "--kv-bits", "8/4", "--kv-group-size", "32")
    assert seen[-1] == ("8/4", 32)
