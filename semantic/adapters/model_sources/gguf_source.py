"""A GGUF file by its path."""

from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from semantic.adapters.mlx.materialise import materialise
from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources.catalogue import FileSource
from semantic.adapters.model_sources.fingerprint import Fingerprints, as_loaded
from semantic.application.ports.model_source import LoadedModel

_MAGIC = b"GGUF"


@frozen
class GgufSource(FileSource):
    """Recognises an existing file that is called ``*.gguf`` or begins like one."""

    prepare: Prepare
    fingerprints: Fingerprints = field(factory=Fingerprints)

    def recognises(self, name: str) -> bool:
        path = Path(name).expanduser()
        return path.is_file() and (path.suffix.lower() == ".gguf" or _begins_like_gguf(path))

    def known_names(self) -> Sequence[str]:
        return ()

    def load(self, name: str) -> LoadedModel:
        path = self.provide(name)
        return load_gguf(path, name, self.prepare, self.fingerprints.of(path))

    def provide(self, name: str) -> Path:
        return Path(name).expanduser()

    def is_fetched(self, name: str) -> bool:
        return True


def load_gguf(path: Path, name: str, prepare: Prepare, fingerprint: str = "") -> LoadedModel:
    """Load the file under ``name``: header checked first, weights in the runtime's compute dtype, all
    evaluated, and the fingerprint remembered for the pair. ``fingerprint``: the file's, where it is known.
    """
    runtime = prepare()  # before anything imports mlx
    from semantic.adapters.mlx.fingerprint import remember
    from semantic.adapters.model_sources.gguf import build_model
    from semantic.adapters.model_sources.gguf_file import GgufFile
    from semantic.adapters.model_sources.gguf_tokenizer import build_tokenizer

    file = GgufFile.read(path)
    model = build_model(file, compute_dtype=runtime.compute_dtype, dequantise=runtime.dequantises)
    tokenizer = build_tokenizer(file.metadata, path)
    materialise(model)
    fingerprint = as_loaded(fingerprint or Fingerprints().of(path), runtime)
    remember(model, tokenizer, fingerprint)
    return LoadedModel(name, model, tokenizer, fingerprint)


def _begins_like_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
