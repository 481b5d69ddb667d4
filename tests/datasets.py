"""Small `.beton` files for tests."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ffcv import DatasetWriter
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from photos import photos


class InMemory:
    """An indexed dataset over a list of samples."""

    def __init__(self, samples: Sequence[tuple]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple:
        return self.samples[index]


def photo_samples(count: int, side: int = 128) -> list[tuple[np.ndarray, int]]:
    """(image, index) pairs of different sizes, from real photographs."""
    sources = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in photos(12)]
    samples = []
    for i in range(count):
        image = sources[i % len(sources)].copy()
        image.thumbnail((side + 3 * i, side + i))
        samples.append((np.asarray(image), i))
    return samples


def write_photos(path: Path, count: int, **image_options: object) -> Path:
    """Writes `count` photographs with their index as label."""
    fields = {"image": RGBImageField(**(image_options or {"write_mode": "jpg"})), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(InMemory(photo_samples(count)))
    return path


def image_starts(path: Path) -> np.ndarray:
    """int64 [N]: where the bytes of each image begin."""
    return Reader(path).metadata["image"]["data_ptr"].astype(np.int64)
