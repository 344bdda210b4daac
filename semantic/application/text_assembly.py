"""Turns drawn tokens into text that may be shown: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence

from semantic.application.ports.tokenizer import Detokenizer


class TextAssembler:
    """The text of one request. Without a detokenizer every text is empty."""

    def __init__(self, detokenizer: Detokenizer | None, stop: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._held = ""  # might be the beginning of a stop string
        self.stopped = False
        self.text = ""

    def add(self, token_id: int) -> str:
        """Take a token and return the text that can be shown now. Sets ``stopped`` when a stop string is complete."""
        return self._take(self._detokenizer.add(token_id)) if self._detokenizer else ""

    def finish(self) -> str:
        """Return what was held back, up to a stop string that the last bytes may complete."""
        if self.stopped or self._detokenizer is None:
            return ""
        shown = self._take(self._detokenizer.finish())
        if self.stopped:
            return shown
        rest, self._held = self._held, ""
        self.text += rest
        return shown + rest

    def _take(self, piece: str) -> str:
        pending = self._held + piece
        found = [at for at in (pending.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            shown = pending[: min(found)]
        else:
            keep = max((_overlap(pending, stop) for stop in self._stop), default=0)
            shown, self._held = pending[: len(pending) - keep], pending[len(pending) - keep :]
        self.text += shown
        return shown


def _overlap(text: str, stop: str) -> int:
    """The longest end of ``text`` that ``stop`` begins with, shorter than ``stop``."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
