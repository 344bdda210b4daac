"""Flag > environment > file > default."""

from pathlib import Path

import pytest

from semantic import settings
from semantic.domain.errors import InvalidSettingError
from semantic.settings import load_settings


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder and an empty configuration folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "CONFIG_FILES", (tmp_path / "config.toml", Path("semantic.toml")))
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"SEMANTIC_{name.upper()}", raising=False)


def test_the_defaults() -> None:
    found = load_settings()
    assert (found.model, found.max_num_seqs, found.exactness) == ("smollm2-135m", 16, "token")
    assert (found.memory, found.store, found.prefill_step_size) == (None, None, None)
    assert (found.cache_layout, found.compute_dtype, found.blas, found.log_level) == ("auto", "auto", "auto", "warning")


def test_a_flag_beats_the_environment_which_beats_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text('model = "from-home"\nmemory = "1GB"\nstore = "kv"\nmax_num_seqs = 1\n')
    Path("semantic.toml").write_text('model = "from-here"\nmemory = "2GB"\nmax_num_seqs = 2\n')
    monkeypatch.setenv("SEMANTIC_MEMORY", "3GB")
    monkeypatch.setenv("SEMANTIC_MAX_NUM_SEQS", "3")
    found = load_settings(max_num_seqs=4, store=None)
    assert (found.max_num_seqs, found.memory, found.model, found.store) == (4, "3GB", "from-here", Path("kv"))


@pytest.mark.parametrize("name", sorted(settings.Settings.model_fields))
def test_every_setting_has_its_environment_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"exactness": "bit", "cache_layout": "paged", "compute_dtype": "model", "blas": "off"}
    choices |= {"prefix_caching": "False", "live_stats": "False", "kv_at_rest": "8/4"}
    value = choices.get(name, "debug" if name == "log_level" else "7")
    monkeypatch.setenv(f"SEMANTIC_{name.upper()}", value)
    assert str(getattr(load_settings(), name)) == value


def test_an_impossible_value_is_named_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMANTIC_BLAS", "mkl")
    with pytest.raises(InvalidSettingError, match=r"setting blas = 'mkl' \(from SEMANTIC_BLAS\): .*'openblas'"):
        load_settings()
    with pytest.raises(InvalidSettingError, match=r"setting max_num_seqs = 0 \(as given\)"):
        load_settings(blas="off", max_num_seqs=0)


def test_a_misspelt_line_in_a_file_is_not_ignored() -> None:
    Path("semantic.toml").write_text('modle = "x"\n')
    with pytest.raises(InvalidSettingError, match=r"setting modle = 'x' \(from semantic\.toml\)"):
        load_settings()


def test_a_file_that_is_no_toml_is_named() -> None:
    Path("semantic.toml").write_text("model =\n")
    with pytest.raises(InvalidSettingError, match=r"cannot be read: .*semantic\.toml"):
        load_settings()


def test_a_misspelt_flag_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match=r"setting memroy = '1GB' \(as given\)"):
        load_settings(memroy="1GB")
