"""What an engine that is closed, down or in doubt says."""

from semantic.domain.errors.base import SemanticError


class EngineIntegrityError(SemanticError):
    """Pool, index, memory and store of an engine do not agree. This is a defect of the library: please report it."""


class InvalidTransitionError(SemanticError):
    """The sequence's lifecycle does not allow this step from its present state. Nothing was changed."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"a sequence that is {state} cannot {event}")
        self.state, self.event = state, event


class EngineClosedError(SemanticError):
    """The engine was closed. Open a new one with semantic.open(...)."""


class EngineDrainingError(EngineClosedError):
    """The engine finishes what it has and takes no new request. Send it to another engine, or open a new one."""


class EngineDownError(SemanticError):
    """The engine's owner thread failed and the engine is down. The cause is chained; open a new engine."""


class EngineForkedError(SemanticError):
    """The process was forked after the engine was opened, and its thread did not come along. Open one here."""


class EventLoopClosedError(SemanticError):
    """The event loop of a task that waits was closed. Await or cancel requests before the loop is closed."""
