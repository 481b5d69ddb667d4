"""SPDL, which decodes, crops, scales and mirrors with FFmpeg's filters in threads of this process: P1 and P4.

Not part of the development environment: benchmarks/views.py says how to install it beside.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import spdl.io
import torch
from spdl.dataloader import DataLoader

from workloads import BATCH_SIZE, Source


def _random_crop(width: int, height: int) -> str:
    """Of 0.08 to 1 of the area and 3:4 to 4:3, as torchvision draws it."""
    for _ in range(10):
        area, ratio = random.uniform(0.08, 1) * width * height, math.exp(random.uniform(-1, 1) * math.log(4 / 3))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            return f"crop={w}:{h}:{random.randint(0, width - w)}:{random.randint(0, height - h)}"
    return f"crop={min(width, height)}:{min(width, height)}"


def _training(path: Path) -> spdl.io.ImageFrames:
    packets = spdl.io.demux_image(str(path))
    steps = [_random_crop(packets.width, packets.height), "scale=224:224:flags=bilinear"]
    mirror = ["hflip"] if random.random() < 0.5 else []
    return spdl.io.decode_packets(packets, filter_desc=",".join([*steps, *mirror, "format=rgb24"]))


CENTER = spdl.io.get_video_filter_desc(
    scale_width=256, scale_height=256, scale_algo="bilinear", scale_mode="crop", crop_width=224, crop_height=224
)


def _center(path: Path) -> spdl.io.ImageFrames:
    return spdl.io.decode_packets(spdl.io.demux_image(str(path)), filter_desc=CENTER)


def _batch(images: list[spdl.io.ImageFrames]) -> tuple[torch.Tensor]:
    return (spdl.io.to_torch(spdl.io.convert_frames(images)).permute(0, 3, 1, 2),)


class _Shuffled:
    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __iter__(self) -> Iterator[Path]:
        return iter(random.sample(self.files, len(self.files)))


def loader(workload: str, source: Source, threads: int) -> DataLoader:
    """Batches whose first element is a view of each image."""
    decode = {"P1": _training, "P4": _center}[workload]
    return DataLoader(
        _Shuffled(source.files), preprocessor=decode, aggregator=_batch, batch_size=BATCH_SIZE, num_threads=threads
    )
