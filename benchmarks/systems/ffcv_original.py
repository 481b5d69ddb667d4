"""The original FFCV, which knows no more than one view and no hue: P1 and P4, from the `.beton` files that ours writes.

Not part of the development environment: benchmarks/views.py says how to install it beside. It takes new
memory, 0.2 GB, for every epoch: `--images 2000` and more for epochs in which that does not count.
"""

from __future__ import annotations

import importlib

from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from workloads import BATCH_SIZE, Source

importlib.import_module("ffcv._libffcv")  # only the original has it: ours, of the same name, is not measured instead


def _view(workload: str) -> list:
    if workload == "P1":
        return [RandomResizedCropRGBImageDecoder((224, 224)), RandomHorizontalFlip(0.5)]
    return [CenterCropRGBImageDecoder((224, 224), 224 / 256)]


def loader(workload: str, source: Source, threads: int) -> Loader:
    """Batches whose first element is a view of each image."""
    name, _, raw = workload.partition(" ")
    return Loader(
        str(source.raw_beton if raw else source.plain_beton),
        BATCH_SIZE,
        num_workers=threads,
        order=OrderOption.RANDOM,
        drop_last=False,
        pipelines={"image": [*_view(name), ToTensor(), ToTorchImage()], "label": None},
    )
