"""Files that many unit tests read, as large as the test file's COUNT says, and ways to read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets import write_photos
from ffcv.pipeline.compiler import Compiler
from small_files import write_numbers


@pytest.fixture(scope="module")
def beton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COUNT photographs as JPEGs; the label is the index."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos.beton", request.module.COUNT)


@pytest.fixture(scope="module")
def raw_beton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as pixels, so that what is read is exactly what was written."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos.beton", request.module.COUNT, write_mode="raw")


@pytest.fixture(scope="module")
def numbers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COUNT samples without images."""
    return write_numbers(tmp_path_factory.mktemp("numbers") / "numbers.beton", request.module.COUNT)


@pytest.fixture
def copy(beton: Path, tmp_path: Path) -> Path:
    """A copy of `beton` that a test may damage."""
    path = tmp_path / "copy.beton"
    path.write_bytes(beton.read_bytes())
    return path


@pytest.fixture(params=[True, False], ids=["os_cache", "own_cache"])
def os_cache(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=["compiled", "plain"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Runs a test with numba, and as plain Python."""
    if request.param == "compiled":
        pytest.importorskip("numba", reason="numba is optional and not installed")
    monkeypatch.setattr(Compiler, "is_enabled", request.param == "compiled")
    return request.param == "compiled"
