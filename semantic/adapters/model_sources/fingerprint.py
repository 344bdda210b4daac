"""The fingerprint of a model's files."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from semantic.adapters.mlx.runtime import Runtime
from semantic.adapters.model_sources.hashed_files import HashedFiles
from semantic.domain.errors import ModelDamagedError

_READ = ("*.safetensors", "*.json", "*.jsonl", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.spm", "*.bpe", "*.py")
"""What mlx_lm may read from a folder; tokenizers keep their parts in files of many names."""

_TEMPLATES = "additional_chat_templates/*.jinja"
_GENERATION = "generation_config.json"


@frozen
class Fingerprints:
    """Makes fingerprints of files. ``hashed`` remembers which files it has read before."""

    hashed: HashedFiles = field(factory=HashedFiles)

    @classmethod
    def kept_in(cls, folder: Path) -> "Fingerprints":
        """Hashes of files are kept in ``folder``, as far as it can be written."""
        return cls(HashedFiles(folder))

    def of(self, path: Path) -> str:
        """SHA-256, in hex, of a GGUF file or of what mlx_lm reads from a folder; where it lies doesn't matter.

        Raises ``ModelDamagedError`` where a file can't be read.
        """
        try:
            return self._of_folder(path) if path.is_dir() else of_gguf(self.hashed.sha256_of([path])[0])
        except OSError as exc:
            raise ModelDamagedError(f"{path} cannot be read ({exc}); fetch the model again") from exc

    def _of_folder(self, folder: Path) -> str:
        files = _files(folder)
        hashes = self.hashed.sha256_of(files)
        lines = [f"{file.relative_to(folder).as_posix()} {sha256}" for file, sha256 in zip(files, hashes, strict=True)]
        return _sha256(["semantic folder 1", *lines, f"ends {_ends(folder)}"])


def of_gguf(file_sha256: str) -> str:
    """The fingerprint of a GGUF file that hashes to this. Everything is in the one file."""
    return _sha256(["semantic gguf 1", file_sha256])


def as_loaded(fingerprint: str, runtime: Runtime) -> str:
    """The fingerprint of a model loaded from files that have ``fingerprint``.

    A device loads quantised weights in one way: expanded on CPU, as they are elsewhere. ``compute_dtype="model"``
    leaves them as they are on CPU too, and then keys and values differ though dtype and device may be the same.
    """
    if runtime.device == "cpu" and not runtime.dequantises:
        return _sha256(["semantic as saved 1", fingerprint])
    return fingerprint


def _files(folder: Path) -> list[Path]:
    found = {file for pattern in (*_READ, _TEMPLATES) for file in folder.glob(pattern)}
    return sorted(file for file in found if file.is_file() and file.name != _GENERATION and file.name[0] != ".")


def _ends(folder: Path) -> str:
    """Of the generation settings only the end tokens matter here; mlx_lm ignores a file that is no JSON too."""
    try:
        settings = json.loads((folder / _GENERATION).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return "null"
    return json.dumps(settings.get("eos_token_id") if isinstance(settings, dict) else None)


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
