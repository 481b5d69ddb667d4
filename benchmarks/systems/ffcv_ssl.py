"""The original FFCV-SSL, from the `.beton` files that ours writes: P1, P2 and P4, as examples/train_ssl.py has them.

Not part of the development environment: benchmarks/views.py says how to install it beside. Random crops are square, and
jitter, in 64-bit floats, has one order of steps; hue turns about the gray axis. Two views compile for a minute before
the warm-up epoch. Like FFCV it takes new memory for every epoch: `--images 2000` and more where that must not count.

P2b and P3 are left out: its blur asks for a function that SciPy 1.13 dropped, runs uncompiled in one thread, and cannot
come before normalisation in one view alone, since all pipelines of a loader leave compiled code at the same step.
"""

from __future__ import annotations

import importlib

import numpy as np

from ffcv.loader import Loader, OrderOption
from ffcv.transforms import (
    CenterCrop,
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

importlib.import_module("ffcv._libffcv")  # only the original has it: ours, of the same name, is not measured instead


def _simclr(*more: object) -> list:
    return [
        RandomResizedCrop((224, 224)),
        RandomHorizontalFlip(0.5),
        RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        RandomGrayscale(0.2),
        *more,
        NormalizeImage(np.array(MEAN), np.array(STD), np.float32),
    ]


def _views(workload: str) -> list[list]:
    if workload == "P1":
        return [[RandomResizedCrop((224, 224)), RandomHorizontalFlip(0.5)]]
    if workload == "P4":
        return [[CenterCrop((224, 224), 224 / 256)]]
    return [_simclr(), _simclr(RandomSolarization(0.2, 128))]


def loader(workload: str, source: Source, threads: int) -> Loader:
    """Batches whose first element is a view of each image."""
    name, _, raw = workload.partition(" ")
    pipelines = [[*view, ToTensor(), ToTorchImage()] for view in _views(name)]
    views = dict(zip(("image", "image_0"), pipelines, strict=False))
    return Loader(
        str(source.raw_beton if raw else source.plain_beton),
        BATCH_SIZE,
        num_workers=threads,
        order=OrderOption.RANDOM,
        drop_last=False,
        pipelines={**views, "label": None},
        custom_field_mapper={view: "image" for view in views if view != "image"},
    )
