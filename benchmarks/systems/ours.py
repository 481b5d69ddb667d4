"""FFCV-SSL (this package)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffcv import Loader, OrderOption
from ffcv.transforms import (
    CenterCrop,
    GaussianBlur,
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
    ToTensor,
    ToTorchImage,
)
from workloads import BATCH_SIZE, LARGE_CROPS, MEAN, SMALL_CROPS, STD, Source

FULL = (0.08, 1.0)


def _simclr(size: int, scale: tuple[float, float], *more: object) -> list:
    return [
        RandomResizedCrop((size, size), scale=scale),
        RandomHorizontalFlip(0.5),
        RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        RandomGrayscale(0.2),
        *more,
        NormalizeImage(MEAN, STD, np.float32),
        ToTensor(),
        ToTorchImage(),
    ]


def _views(workload: str) -> list[list]:
    uint8 = [ToTensor(), ToTorchImage()]
    blur = GaussianBlur(1.0, 23, (0.1, 2.0))
    second = _simclr(224, FULL, RandomSolarization(0.2, 128))
    large, small = _simclr(224, LARGE_CROPS, blur), _simclr(96, SMALL_CROPS, blur)
    return {
        "P1": [[RandomResizedCrop((224, 224)), RandomHorizontalFlip(0.5), *uint8]],
        "P2": [_simclr(224, FULL), second],
        "P2b": [_simclr(224, FULL, blur), second],
        "P3": [large, large, *[small] * 8],
        "P4": [[CenterCrop((224, 224), 224 / 256), *uint8]],
    }[workload]


def loader(workload: str, source: Source, threads: int) -> Loader:
    """Batches whose first element is a view of each image."""
    name, _, raw = workload.partition(" ")
    return loader_of(source.raw_beton if raw else source.beton, name, threads)


def loader_of(path: Path, name: str, threads: int) -> Loader:
    """The same from any `.beton` file."""
    pipelines = {"image" if i == 0 else f"image{i}": view for i, view in enumerate(_views(name))}
    return Loader(
        path,
        BATCH_SIZE,
        order=OrderOption.RANDOM,
        seed=0,
        num_workers=threads,
        drop_last=False,
        pipelines={**pipelines, "label": None},
        custom_field_mapper={view: "image" for view in pipelines if view != "image"},
    )
