"""A request's own logits processors, kept from harming the rows beside it."""

from typing import Any

import attrs

from semantic.domain.errors import LogitsProcessorError
from semantic.domain.value_objects import LogitsProcessor, SamplingParams


class GuardedProcessors:
    """Applies processors one after the other. When one fails, the logits stay and the error waits to be raised."""

    def __init__(self, processors: tuple[LogitsProcessor, ...]) -> None:
        self._processors = processors
        self._error: LogitsProcessorError | None = None

    def __call__(self, tokens: Any, logits: Any) -> Any:
        shape = logits.shape
        try:
            for processor in self._processors if self._error is None else ():
                logits = _of_shape(shape, processor(tokens, logits), processor)
        except LogitsProcessorError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - it is the caller's code, and may raise anything
            self._error = LogitsProcessorError(f"a logits processor raised {type(error).__name__}: {error}")
            self._error.__cause__ = error
        return logits

    def raise_if_failed(self) -> None:
        """Raise the :class:`LogitsProcessorError` of what went wrong, if anything did."""
        if self._error is not None:
            raise self._error


def guarded(sampling: SamplingParams) -> tuple[SamplingParams, GuardedProcessors | None]:
    """``sampling`` with a guard around its processors, and the guard; None where there are no processors."""
    if not sampling.logits_processors:
        return sampling, None
    guard = GuardedProcessors(sampling.logits_processors)
    return attrs.evolve(sampling, logits_processors=(guard,)), guard


def _of_shape(shape: Any, logits: Any, processor: LogitsProcessor) -> Any:
    found = getattr(logits, "shape", None)
    if found != shape:
        raise LogitsProcessorError(
            f"the logits processor {processor!r} returned {type(logits).__name__} of shape {found}, not logits of "
            f"shape {shape}"
        )
    return logits
