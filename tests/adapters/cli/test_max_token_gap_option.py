"""``--max-token-gap-ms`` reaches whatever opens an engine."""

from typing import Any

import attrs
import pytest

from semantic.domain.errors import InvalidRequestError


@pytest.mark.parametrize("arguments", [("generate", "Hi"), ("chat",), ("agent", "chat", "alice", "--store", "kv")])
def test_the_option_is_the_setting(cli: Any, arguments: tuple[str, ...]) -> None:
    seen: list[float] = []

    def open_engine(settings: Any) -> Any:
        seen.append(settings.max_token_gap_ms)
        raise InvalidRequestError("not now")

    opened = type(cli)(attrs.evolve(cli.services, open_engine=open_engine))
    opened(*arguments)
    opened(*arguments, "--max-token-gap-ms", "0")
    opened(*arguments, "--max-token-gap-ms", "62.5")
    assert seen == [500, 0, 62.5]
