"""Small handwritten digits, and a training on them that takes a second."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ffcv.fields import IntField, RGBImageField
from ffcv.ssl import config
from ffcv.writer import DatasetWriter

SIDE = 16


class Digits(Sequence):
    """The first `n` digits, after `skip` others, as [SIDE, SIDE, 3] images."""

    def __init__(self, n: int, skip: int = 0) -> None:
        from sklearn.datasets import load_digits  # slow, and processes that only train on a file do without

        images, labels = load_digits(return_X_y=True)
        self.labels = labels[skip:]
        pixels = (images[skip : skip + n] * 15.9375).astype(np.uint8).reshape(n, 8, 8)
        self.images = np.repeat(pixels.repeat(2, axis=1).repeat(2, axis=2)[..., None], 3, axis=3)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])


def write(path: Path, dataset: Any = None) -> Path:
    """300 digits, or another dataset of images and labels, as a `.beton` file."""
    writer = DatasetWriter(str(path), {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset(Digits(300) if dataset is None else dataset)
    return path


def arguments(path: Path, folder: Path, *extra: str, recipe: str = "simclr_digits") -> list[str]:
    """Of `ffcv train`: three epochs of five steps."""
    return [
        *("--recipe", recipe, "--data.train", str(path), "--logging.folder", str(folder)),
        *("--data.num_workers", "1", "--data.held_out", "0.2", "--views.size", str(SIDE), "--model.width", "8"),
        *("--training.batch_size", "48", "--training.epochs", "3", "--training.accelerator", "cpu"),
        *("--training.precision", "32-true", "--training.eval_every", "0", "--logging.progress", "false"),
        *("--optim.lr", "0.01", "--optim.warmup_epochs", "1", "--logging.checkpoint_every", "1", *extra),
    ]


def configuration(path: Path, folder: Path, *extra: str, recipe: str = "simclr_digits") -> config.Config:
    return config.parse(arguments(path, folder, *extra, recipe=recipe))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same(expected: object, found: object) -> None:
    """Equal to the bit: tensors, and what holds them."""
    assert type(expected) is type(found)
    if isinstance(expected, torch.Tensor):
        assert torch.equal(expected, found)
    elif isinstance(expected, dict):
        assert list(expected) == list(found)
        for key in expected:
            assert_same(expected[key], found[key])
    elif isinstance(expected, list | tuple):
        for a, b in zip(expected, found, strict=True):
            assert_same(a, b)
    else:
        assert expected == found
