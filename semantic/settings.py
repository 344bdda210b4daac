"""Settings: one field, one environment variable, one line in a file. Flag > environment > file > default.

Files, the later one wins: ``config.toml`` in the user's configuration folder for ``semantic`` (on Linux
``~/.config/semantic/``), then ``semantic.toml`` in the working folder. ``SEMANTIC_MODEL=...`` sets ``model``,
and so on for every field. A flag is an argument: ``Settings(model=...)``.
"""

import os
import warnings
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any, Literal

from platformdirs import user_cache_path, user_config_path, user_runtime_path
from pydantic import Field, NonNegativeFloat, NonNegativeInt, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from semantic.domain.errors import InvalidSettingError

CONFIG_FILES = (user_config_path("semantic", appauthor=False) / "config.toml", Path("semantic.toml"))


class Settings(BaseSettings):
    """Everything that can be set. None means: decided from the device or the machine."""

    model_config = SettingsConfigDict(env_prefix="SEMANTIC_", frozen=True, extra="forbid", protected_namespaces=())

    model: str = Field("smollm2-135m", description="name, folder, .gguf file or hub id of the model")
    adapter_path: Path | None = Field(None, description="folder of a LoRA adapter to put on models loaded by name")
    memory: str | None = Field(None, description="budget of KV blocks, as 1GB or 1GiB")
    store: Path | None = Field(None, description="folder in which caches and agents outlive the process")
    store_limit: str | None = Field(None, description="budget of the store on disk, as 20GB; unlimited by default")
    kv_at_rest: Literal["exact", "8", "8/4", "4"] = Field(
        "exact", description="bits of keys and values in blocks at rest, in memory and in the store"
    )
    prefix_caching: bool = Field(True, description="use again what was computed of a prompt's beginning")
    kv_bits: int | str | None = Field(
        None, union_mode="left_to_right", description="8, 8/4 or 4: quantise keys / values as they are computed"
    )
    kv_group_size: int = Field(64, description="elements of a head that share a scale where kv_bits is set")
    max_num_seqs: int = Field(16, ge=1, description="sequences that decode together")
    max_waiting: int = Field(4096, ge=1, description="requests that wait at most; one more is refused")
    max_token_gap_ms: NonNegativeInt | NonNegativeFloat = Field(
        500,
        union_mode="left_to_right",
        description="longest pause of a running request while a prompt is read; 0 sets none, for throughput",
    )
    prefill_step_size: int | None = Field(None, ge=1, description="prompt tokens per prefill chunk")
    prompt_lookup_num_tokens: int = Field(
        15, ge=0, description="most tokens drafted at once from what the context said before; 0 for none"
    )
    exactness: Literal["token", "bit"] = Field("token", description="which lane of identity with mlx_lm")
    cache_layout: Literal["auto", "paged", "contiguous"] = Field("auto", description="where keys and values live")
    compute_dtype: Literal["auto", "model", "float32", "float16", "bfloat16"] = Field(
        "auto", description="auto: float32 on CPU, the model's own elsewhere"
    )
    blas: Literal["auto", "openblas", "off"] = Field("auto", description="OpenBLAS under MLX on Linux x86-64")
    blas_threads: int | None = Field(None, ge=1, description="OpenBLAS threads; the usable cores by default")
    attention_threads: int | None = Field(None, ge=1, description="threads of the paged attention on CPU")
    model_cache: Path = Field(
        default_factory=lambda: user_cache_path("semantic", appauthor=False) / "models",
        description="folder in which fetched models are kept",
    )
    live_stats: bool = Field(True, description="let semantic top see the engines of this process")
    live_folder: Path = Field(
        default_factory=lambda: _runtime_folder() / "engines",
        description="folder in which engines tell what they are doing, about once a second",
    )
    stats_log_interval: int = Field(
        10, ge=0, description="seconds between lines of statistics in the log, at level info; 0 writes none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="lines on stderr")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, files: pydantic-settings takes the first source that has a value."""
        files = [file for file in reversed(CONFIG_FILES) if file.is_file()]
        return (
            init_settings,
            env_settings,
            *(TomlConfigSettingsSource(settings_cls, file) for file in files),
        )


def _runtime_folder() -> Path:
    """Where the system keeps what is gone with a session; platformdirs warns where it has to fall back to ``/tmp``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return user_runtime_path("semantic", appauthor=False)


def load_settings(**flags: Any) -> Settings:
    """The settings in force. ``flags`` that are None count as not given. Raises ``InvalidSettingError``."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as exc:
        problems = (_problem(error["loc"], error["msg"], error["input"], given) for error in exc.errors())
        raise InvalidSettingError("; ".join(problems)) from exc
    except (TOMLDecodeError, OSError) as exc:
        raise InvalidSettingError(f"a settings file cannot be read: {exc} ({_files()})") from exc


def _problem(location: tuple[int | str, ...], message: str, value: object, given: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in location)
    variable = f"SEMANTIC_{name.upper()}"
    file_or_variable = variable if variable in os.environ else _files()
    origin = "as given" if name in given else f"from {file_or_variable}"
    return f"setting {name} = {value!r} ({origin}): {message}"


def _files() -> str:
    return " or ".join(str(file) for file in CONFIG_FILES if file.is_file())
