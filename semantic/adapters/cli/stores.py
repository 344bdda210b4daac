"""The store that a command is about."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from semantic.adapters.cli.services import Services
from semantic.adapters.storage.disk_store import holds_a_store
from semantic.application.ports.block_store import BlockStore
from semantic.domain.errors import InvalidSettingError, StoreError
from semantic.settings import Settings

Store = Annotated[Path | None, typer.Option(help="Folder of the store; the one in the settings by default.")]


@contextmanager
def opened_store(services: Services, path: Path | None) -> Iterator[BlockStore]:
    """The store, which must be there."""
    store = services.open_store(existing(services.settings(store=path)))
    try:
        yield store
    finally:
        store.close()


def existing(settings: Settings) -> Settings:
    """The settings, if there is a store where they say."""
    if not holds_a_store(chosen(settings)):
        raise StoreError(f"there is no store in {settings.store}")
    return settings


def chosen(settings: Settings) -> Path:
    """The folder in the settings. Raises :class:`InvalidSettingError` where none is set."""
    if settings.store is None:
        raise InvalidSettingError("no store is set: give --store PATH, or SEMANTIC_STORE")
    return settings.store.expanduser()
