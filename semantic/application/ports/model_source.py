"""Where models come from."""

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import frozen


@frozen
class LoadedModel:
    """The pair that ``mlx_lm.load`` returns, with the name it was found under. ``tokenizer`` may be None.

    ``fingerprint``: SHA-256 of weights, configuration and tokenizer in hex; empty where it isn't known yet.
    ``adapters``: those of the LoRA adapters on top of them, in order.
    """

    name: str
    model: Any
    tokenizer: Any
    fingerprint: str = ""
    adapters: tuple[str, ...] = ()


class ModelSource(Protocol):
    """One way to find a model. Sources are asked in turn; the first that recognises a name loads it."""

    def recognises(self, name: str) -> bool:
        """Whether this source would load ``name``. Touches no network."""

    def known_names(self) -> Sequence[str]:
        """Names worth suggesting when another name is unknown."""

    def load(self, name: str) -> LoadedModel:
        """Load it, fetching first where needed, with progress on a terminal.

        Raises ``ModelNotFoundError``, ``ModelDamagedError``, ``UnsupportedArchitectureError`` or ``DownloadError``.
        """
