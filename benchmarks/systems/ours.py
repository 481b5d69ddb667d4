"""FFCV-SSL (this package)."""

from __future__ import annotations

from collections.abc import Iterator

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
from workloads import BATCH_SIZE, MEAN, STD, Source


def _simclr(*more: object) -> list:
    return [
        RandomResizedCrop((224, 224)),
        RandomHorizontalFlip(0.5),
        RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        RandomGrayscale(0.2),
        *more,
        NormalizeImage(MEAN, STD, np.float32),
        ToTensor(),
        ToTorchImage(),
    ]


def batches(workload: str, source: Source, threads: int) -> Iterator[int]:
    """Yields the number of images of each batch, as it comes."""
    uint8 = [ToTensor(), ToTorchImage()]
    pipelines: dict[str, list | None] = {
        "P1": {"image": [RandomResizedCrop((224, 224)), RandomHorizontalFlip(0.5), *uint8]},
        "P2": {"image": _simclr(), "image2": _simclr(RandomSolarization(0.2, 128))},
        "P2b": {"image": _simclr(GaussianBlur(1.0, 23, (0.1, 2.0))), "image2": _simclr(RandomSolarization(0.2, 128))},
        "P4": {"image": [CenterCrop((224, 224), 224 / 256), *uint8]},
    }[workload]
    loader = Loader(
        source.beton,
        BATCH_SIZE,
        order=OrderOption.RANDOM,
        seed=0,
        num_workers=threads,
        drop_last=False,
        pipelines={**pipelines, "label": None},
        custom_field_mapper={"image2": "image"} if "image2" in pipelines else {},
    )
    for batch in loader:
        yield len(batch.image)
