"""`ffcv doctor`'s self-test: encode, write, load, and the same pixels by every instruction set."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ffcv import _core
from ffcv import transforms as T
from ffcv.cli.augment import normalised
from ffcv.cli.checks import Check, ok, problem
from ffcv.errors import one_line
from ffcv.fields import EncodedImage, IntField, RGBImageField
from ffcv.loader import Loader
from ffcv.writer import DatasetWriter

LEVELS = ("v2", "v3", "v4", "v4_vnni", "baseline")
SAMPLES, THREADS = 12, 2

EXPECTED = "7d61c3fef722d3f309cb9f318304b5d9"
"""The hash of all pixels, the same on every machine; another where a random stream or a pixel changes on purpose."""

REPORT = "trainings will not be those of other machines: please report it with this output"


def self_test() -> list[Check]:
    """Writes a small file and loads it on two threads by each instruction set that this machine has."""
    name, began = "self-test", time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="ffcv-doctor-") as folder:
            hashes = pixels_by_level(_write(Path(folder) / "test.beton"))
    except Exception as error:
        return [problem(name, one_line(error), "writing and loading a small file failed: please report it")]
    seconds = f"{time.perf_counter() - began:.2f} s"
    wrong = [level for level, found in hashes.items() if found != EXPECTED]
    if not wrong:
        ways = ", ".join(hashes)
        return [ok(name, f"wrote, read and augmented {SAMPLES} images in {seconds}: the right pixels by {ways}")]
    if len(set(hashes.values())) > 1:
        return [problem(name, f"instruction sets differ: {', '.join(wrong)} computed other pixels", REPORT)]
    return [problem(name, f"other pixels than this version's: {next(iter(hashes.values()))}", REPORT)]


def pixels_by_level(path: Path) -> dict[str, str]:
    """A hash of everything that the file's views hold, by instruction set."""
    hashes = {}
    with _kept_kernels():
        for level in LEVELS:
            if _core.select_isa(level):
                hashes[level] = _digest(path)
    return hashes


@contextmanager
def _kept_kernels() -> Iterator[None]:
    used = _core.isa()
    try:
        yield
    finally:
        _core.select_isa(used)


def _write(path: Path) -> Path:
    """Pictures made by arithmetic, so that no library takes part: every other one is a JPEG."""
    y, x = np.mgrid[:120, :160]
    samples = []
    for i in range(SAMPLES):
        pixels = np.stack([x * 3 + i * y, y * 2 + 40 * ((x // 20 + y // 20) % 2), x + y * i], axis=2).astype(np.uint8)
        image: Any = pixels
        if i % 2:
            image = EncodedImage(_core.encode_jpeg(pixels, 90, halve_chroma=i % 4 == 1), *pixels.shape[:2])
        samples.append((image, i))
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(samples)
    return path


def _digest(path: Path) -> str:
    colours = [T.RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1), T.RandomGrayscale(0.2), T.RandomSolarization(0.2, 128)]
    first = [T.RandomResizedCrop((64, 64)), T.RandomHorizontalFlip(0.5), *colours, T.GaussianBlur(0.5, 7)]
    views = {"image": [*first, T.ToTensor()], "other": [T.CenterCrop((48, 48), 0.9), *colours, *normalised()]}
    digest = hashlib.blake2b(digest_size=16)
    loader = Loader(
        path,
        5,
        num_workers=THREADS,
        seed=0,
        shuffle=True,
        drop_last=False,
        pipelines=views,
        custom_field_mapper={"other": "image"},
    )
    with loader:
        for batch in loader:
            for element in (batch.image, batch.label, batch.other):
                digest.update(np.ascontiguousarray(element).tobytes())
    return digest.hexdigest()
