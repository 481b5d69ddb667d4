"""A short, deterministic part of the fuzzing (`make fuzz` runs long, with sanitizers), and all that it ever found."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import exercise_file, exercise_jpeg, mutate_file, mutate_jpeg, seed_jpegs, write_seed_files  # noqa: E402
from images import exercise_image, seed_images  # noqa: E402

REPRODUCERS = sorted((HERE / "reproducers").glob("*.gz"))


def test_the_undamaged_are_accepted(tmp_path: Path) -> None:
    for path in write_seed_files(tmp_path):
        assert exercise_file(path)
    accepted = [exercise_jpeg(np.frombuffer(jpeg, np.uint8)) for jpeg in seed_jpegs()]
    assert accepted == [True] * (len(accepted) - 1) + [False]  # the last is CMYK


def test_damaged_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    contents = [np.fromfile(path, np.uint8) for path in write_seed_files(tmp_path)]
    accepted = 0
    for turn in range(400):
        path = tmp_path / "current.beton"
        mutate_file(contents[turn % len(contents)], rng).tofile(path)
        accepted += exercise_file(path)
    assert 20 < accepted < 380  # neither everything nor nothing gets past the front door


def test_damaged_jpegs() -> None:
    rng = np.random.default_rng(2)
    jpegs = seed_jpegs()
    accepted = sum(exercise_jpeg(mutate_jpeg(jpegs[turn % len(jpegs)], rng)) for turn in range(3000))
    assert 300 < accepted < 2700


def test_damaged_images_of_every_format() -> None:
    rng = np.random.default_rng(3)
    images = seed_images()
    assert all(map(exercise_image, images))
    accepted = sum(exercise_image(mutate_jpeg(images[turn % len(images)], rng).tobytes()) for turn in range(1500))
    assert 150 < accepted < 1400


@pytest.mark.parametrize("path", REPRODUCERS, ids=[path.name for path in REPRODUCERS])
def test_reproducers(path: Path, tmp_path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    if path.name.endswith(".beton.gz"):
        (tmp_path / "x.beton").write_bytes(content)
        assert exercise_file(tmp_path / "x.beton") in (True, False)
    elif path.name.endswith(".img.gz"):
        assert exercise_image(content) in (True, False)
    else:
        assert exercise_jpeg(np.frombuffer(content, np.uint8)) in (True, False)
