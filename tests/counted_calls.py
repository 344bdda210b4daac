"""How much work something is, in a number that no busy machine changes."""

import sys
from collections.abc import Callable
from typing import Any


def calls_made(action: Callable[[], Any]) -> int:
    """How many functions, of Python or C, are called while ``action`` runs."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count
