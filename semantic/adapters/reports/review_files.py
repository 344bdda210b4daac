"""Reviews as files beside the results: ``exp_NNN_review.toml``, written by people, only read here."""

import tomllib
from pathlib import Path
from typing import Any

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError

from semantic.domain.errors import ReviewUnreadableError
from semantic.domain.experiments import Review


class FolderReviews:
    """Reads them from ``folder``. What a review may hold: :class:`~semantic.domain.experiments.Review`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._converter = Converter(forbid_extra_keys=True)
        self._converter.register_structure_hook(str, _text)

    def path(self, experiment_id: str) -> Path:
        """``exp_001_review.toml`` for EXP-001."""
        return self.folder / f"{experiment_id.lower().replace('-', '_')}_review.toml"

    def load(self, experiment_id: str) -> Review:
        """An empty one where there is no file. Raises ``ReviewUnreadableError`` naming file and line or field."""
        path = self.path(experiment_id)
        try:
            return self._converter.structure(tomllib.loads(path.read_text(encoding="utf-8")), Review)
        except FileNotFoundError:
            return Review()
        except tomllib.TOMLDecodeError as error:
            raise ReviewUnreadableError(f"{path}: {error}") from error
        except BaseValidationError as error:
            raise ReviewUnreadableError(f"{path}: {'; '.join(transform_error(error, path='review'))}") from error
        except (OSError, ValueError) as error:
            raise ReviewUnreadableError(f"{path} cannot be read: {error}") from error


def _text(value: Any, kind: type[str]) -> str:
    """A date may be written without quotes; a number or a table is a mistake. ``kind`` may be an enumeration."""
    if isinstance(value, bool | int | float | dict | list):
        raise ValueError(f"{value!r} is no text")
    return kind(value)
