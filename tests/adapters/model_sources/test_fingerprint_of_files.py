"""What a model's files are called in the store, and that they are hashed once."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semantic.adapters.mlx.runtime import Prepare
from semantic.adapters.model_sources import hashed_files
from semantic.adapters.model_sources.fingerprint import Fingerprints, of_gguf
from semantic.adapters.model_sources.folder import FolderSource
from semantic.adapters.model_sources.gguf_source import GgufSource
from semantic.adapters.model_sources.hub import HubSource
from semantic.adapters.model_sources.verified_file import sha256_of
from semantic.adapters.model_sources.wheel import SMOLLM2
from semantic.domain.errors import ModelDamagedError

WriteFolder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that nobody has to load."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(100))
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 2}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "README.md").write_text("a model")
    for file in folder.iterdir():
        os.utime(file, (1_000_000_000, 1_000_000_000))
    return folder


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute has passed since the files were written."""
    now = hashed_files.time.time_ns
    monkeypatch.setattr(hashed_files.time, "time_ns", lambda: now() + 60 * 10**9)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read in full."""
    names: list[str] = []

    def sha256(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(hashed_files, "sha256_of", sha256)
    return names


def weight(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(bytes(99) + b"\1")


def config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 3}')


def template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0] }}")


def further_template(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("")


def vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')


def ends(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')


def second_shard(folder: Path) -> None:
    (folder / "model-00002.safetensors").write_bytes(b"")


@pytest.mark.parametrize("change", [weight, config, template, further_template, vocabulary, ends, second_shard])
def test_whatever_mlx_lm_would_read_makes_another_model(folder: Path, change: Callable[[Path], None]) -> None:
    before = Fingerprints().of(folder)
    change(folder)
    assert Fingerprints().of(folder) != before


def test_the_readme_the_place_and_how_to_sample_are_no_part_of_a_model(folder: Path, tmp_path: Path) -> None:
    before = Fingerprints().of(folder)
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    (elsewhere / "README.md").write_text("the same model")
    (elsewhere / "generation_config.json").write_text('{"temperature": 0.6}')
    assert Fingerprints().of(elsewhere) == before


def test_what_was_hashed_is_not_read_again(folder: Path, tmp_path: Path, read: list[str], later: None) -> None:
    first = Fingerprints.kept_in(tmp_path / "cache").of(folder)
    read.clear()
    assert Fingerprints.kept_in(tmp_path / "cache").of(folder) == first
    assert read == []


def test_only_a_changed_file_is_read_again(folder: Path, tmp_path: Path, read: list[str], later: None) -> None:
    first = Fingerprints.kept_in(tmp_path / "cache").of(folder)
    read.clear()
    weight(folder)
    os.utime(folder / "model.safetensors", (1_000_000_000, 1_000_000_000))  # same size and time, other bytes
    assert Fingerprints.kept_in(tmp_path / "cache").of(folder) != first
    assert read == ["model.safetensors"]


def test_a_file_that_may_still_change_is_not_trusted_next_time(folder: Path, tmp_path: Path, read: list[str]) -> None:
    for _ in range(2):
        Fingerprints.kept_in(tmp_path / "cache").of(folder)
    assert read.count("model.safetensors") == 2


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"x": 1}', '{"KEY": [1, 2]}', '{"KEY": [100, 1, 1, "no hash"]}', "\0\xff"]
)
def test_a_damaged_cache_is_ignored_and_written_anew(
    folder: Path, tmp_path: Path, read: list[str], later: None, damage: str
) -> None:
    cache = tmp_path / "cache"
    first = Fingerprints.kept_in(cache).of(folder)
    (cache / "fingerprints.json").write_text(damage.replace("KEY", str(folder / "model.safetensors")))
    read.clear()
    assert Fingerprints.kept_in(cache).of(folder) == first
    assert "model.safetensors" in read
    read.clear()
    assert Fingerprints.kept_in(cache).of(folder) == first
    assert read == []


def test_a_cache_that_cannot_be_written_only_costs_time(folder: Path, tmp_path: Path, later: None) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    assert Fingerprints.kept_in(in_the_way / "cache").of(folder) == Fingerprints().of(folder)


def test_what_lies_there_no_more_is_forgotten(folder: Path, tmp_path: Path, later: None) -> None:
    fingerprints = Fingerprints.kept_in(tmp_path / "cache")
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    fingerprints.of(elsewhere)
    shutil.rmtree(elsewhere)
    fingerprints.of(folder)
    known = json.loads((tmp_path / "cache" / "fingerprints.json").read_text())
    assert {Path(path).parent for path in known} == {folder}


def test_two_snapshots_that_link_to_one_blob_hash_it_once(
    folder: Path, tmp_path: Path, read: list[str], later: None
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for file in folder.iterdir():
            (tmp_path / name / file.name).symlink_to(file)
    fingerprints = Fingerprints.kept_in(tmp_path / "cache")
    assert fingerprints.of(tmp_path / "first") == fingerprints.of(tmp_path / "second") == fingerprints.of(folder)
    assert read.count("model.safetensors") == 1


def test_a_link_that_leads_nowhere_is_passed_over(folder: Path) -> None:
    before = Fingerprints().of(folder)
    (folder / "gone.json").symlink_to(folder / "nowhere")
    assert Fingerprints().of(folder) == before


def test_a_file_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(ModelDamagedError, match="cannot be read"):
        Fingerprints().of(tmp_path / "gone.gguf")


def test_the_default_models_fingerprint_stays_what_it_is_so_that_stores_stay_valid() -> None:
    assert of_gguf(SMOLLM2.member_sha256) == "2f1f909cc304cf6516677aed2dc4917bae22dce89a5777c861f1aca8f1d2ce59"


@pytest.mark.mlx
def test_a_folder_has_the_fingerprint_of_its_files_each_time_and_by_any_name(
    write_folder: WriteFolder, on_cpu: Prepare
) -> None:
    folder = write_folder(bits=4)
    loaded = [FolderSource(on_cpu).load(str(folder)) for _ in range(2)]
    loaded.append(HubSource(on_cpu, lambda name: folder).load("org/name"))
    assert {model.fingerprint for model in loaded} == {Fingerprints().of(folder)}


@pytest.mark.mlx
def test_a_gguf_file_has_the_fingerprint_of_its_bytes(write_gguf: Any, on_cpu: Prepare) -> None:
    path = write_gguf().path
    assert GgufSource(on_cpu).load(str(path)).fingerprint == of_gguf(sha256_of(path))


@pytest.mark.mlx
def test_weights_left_quantised_on_cpu_are_another_model(write_folder: WriteFolder, on_cpu: Prepare) -> None:
    import attrs

    folder = write_folder(bits=4)
    as_saved = attrs.evolve(on_cpu(), compute_dtype="model")
    kept, expanded = FolderSource(lambda: as_saved).load(str(folder)), FolderSource(on_cpu).load(str(folder))
    assert kept.fingerprint != expanded.fingerprint


@pytest.mark.mlx
def test_an_engine_on_a_loaded_pair_has_the_fingerprint_of_the_name(
    write_folder: WriteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import semantic

    monkeypatch.setenv("SEMANTIC_MODEL_CACHE", str(tmp_path / "models"))
    folder = str(write_folder())
    pair = semantic.load(folder)
    with semantic.open(folder) as by_name, semantic.open(pair) as by_pair:
        assert by_name.profile.fingerprint == by_pair.profile.fingerprint == Fingerprints().of(Path(folder))
    pair[0].model.norm.weight *= 2
    with semantic.open(pair) as edited:
        assert edited.profile.fingerprint != Fingerprints().of(Path(folder))
