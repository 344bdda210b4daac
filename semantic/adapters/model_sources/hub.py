"""A model by its hub id, fetched as mlx_lm fetches it: HF_HOME, HF_TOKEN and HF_HUB_OFFLINE hold."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import field, frozen

from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.catalogue import FileSource
from semantic.adapters.model_sources.fingerprint import Fingerprints
from semantic.adapters.model_sources.folder import load_folder
from semantic.application.ports.model_source import LoadedModel
from semantic.domain.errors import DownloadError, ModelError, ModelNotFoundError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub_folder(name: str) -> Path:
    """The local snapshot of a hub model, downloaded where needed, with mlx_lm's own choice of files."""
    from huggingface_hub import snapshot_download
    from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS

    return Path(snapshot_download(name, allow_patterns=DEFAULT_ALLOW_PATTERNS))


@frozen
class HubSource(FileSource):
    """Recognises ``org/name`` where no file or folder is called that. ``folder_of`` is the hub; a test has
    its own.
    """

    prepare: Prepare
    folder_of: Callable[[str], Path] = hub_folder
    fingerprints: Fingerprints = field(factory=Fingerprints)

    def recognises(self, name: str) -> bool:
        return _HUB_ID.fullmatch(name) is not None and not name.endswith(".gguf") and not Path(name).exists()

    def known_names(self) -> Sequence[str]:
        return ()

    def load(self, name: str) -> LoadedModel:
        return load_folder(self.provide(name), name, self.prepare, self.fingerprints)

    def provide(self, name: str) -> Path:
        self.prepare()  # before anything imports mlx
        try:
            return self.folder_of(name)
        except Exception as exc:  # the hub's client raises its own, httpx's, and OS errors
            raise _translated(exc, name) from exc

    def is_fetched(self, name: str) -> bool:
        """As far as the hub's own cache can tell: it knows of a configuration file there."""
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _translated(exc: Exception, name: str) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    said = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
    if isinstance(exc, GatedRepoError):
        return DownloadError(
            f"the hub model {name!r} asks for consent: accept its terms there and set HF_TOKEN ({said})"
        )
    if isinstance(exc, RepositoryNotFoundError):
        return ModelNotFoundError(
            f"there is no folder {name!r}, and the hub has no public model of that id; check the spelling, "
            "or set HF_TOKEN if it is private"
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if offline or isinstance(exc, LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        return DownloadError(
            f"the hub model {name!r} is not in the local cache and {why}; fetch it where there is a network, "
            "or copy the folder and pass its path. The default model smollm2-135m needs no hub"
        )
    return DownloadError(f"the hub model {name!r} could not be fetched ({type(exc).__name__}: {said}); run this again")
