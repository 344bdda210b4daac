"""On what terms a request is served: how urgent it is, and until when it is of use."""

from enum import StrEnum
from typing import Any

from attrs import field, frozen

from semantic.domain.errors import InvalidRequestError


class Priority(StrEnum):
    """Someone waits for an ``INTERACTIVE`` request; a ``BACKGROUND`` one runs when none of those has to wait."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


def _priority(value: "Priority | str") -> Priority:
    try:
        return Priority(value)
    except ValueError as error:
        raise InvalidRequestError(f"priority must be one of {', '.join(Priority)}, got {value!r}") from error


@frozen(kw_only=True)
class Terms:
    """``deadline_s``: seconds from submission after which the request is given up; None waits as long as it takes.

    Raises :class:`InvalidRequestError` naming what is wrong.
    """

    priority: Priority = field(default=Priority.INTERACTIVE, converter=_priority)
    deadline_s: float | None = None

    @classmethod
    def taken_from(cls, keywords: dict[str, Any]) -> "Terms":
        """The terms among a request's keywords, which are taken out of them."""
        return cls(**{name: keywords.pop(name) for name in ("priority", "deadline_s") if name in keywords})

    def __attrs_post_init__(self) -> None:
        is_number = isinstance(self.deadline_s, int | float) and not isinstance(self.deadline_s, bool)
        if self.deadline_s is not None and not (is_number and 0 < self.deadline_s < float("inf")):
            raise InvalidRequestError(
                f"deadline_s must be a positive number of seconds from now, got {self.deadline_s!r}; None sets none"
            )
