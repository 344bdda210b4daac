"""Results files of older schema versions, turned into the present one's content. Reading never rewrites a file."""

from collections.abc import Mapping
from typing import Any


def upgraded(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content as the present version has it."""
    return _from_1(content) if content["version"] == 1 else content


def _from_1(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Schema 1 kept of earlier executions the commit, the versions and bare values."""
    history = [
        {
            **{name: value for name, value in past.items() if name not in ("commit", "versions", "measured")},
            "environment": {
                **dict.fromkeys(("python", "platform", "cpu", "device", "dtype"), "not recorded"),
                "commit": past["commit"],
                "dirty": False,
                "versions": past["versions"],
            },
            "measured": {name: {"value": value} for name, value in past["measured"].items()},
        }
        for past in content.get("history", ())
    ]
    return {**content, "history": history}
