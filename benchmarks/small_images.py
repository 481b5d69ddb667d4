"""Two SimCLR views of 32x32 images: what a sample costs beside its pixels.

    python benchmarks/small_images.py                   50,000 uncompressed images, 2 threads

The images are noise, for uncompressed ones cost the same whatever they show. Every measurement is an epoch after a
warm-up epoch.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ffcv import DatasetWriter, Loader, OrderOption
from ffcv.fields import IntField, RGBImageField
from ffcv.transforms import (
    NormalizeImage,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToTensor,
    ToTorchImage,
)
from options import new_parser

SIZE, MEAN, STD = 32, (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


class Noise:
    def __init__(self, count: int) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], index % 10


def view() -> list:
    return [
        RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1.0)),
        RandomHorizontalFlip(0.5),
        RandomColorJitter(0.8, 0.4, 0.4, 0.2, 0.1),
        RandomGrayscale(0.2),
        NormalizeImage(MEAN, STD, np.float32),
        ToTensor(),
        ToTorchImage(),
    ]


def main() -> None:
    parser = new_parser(__doc__, images=50_000, turns=5)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.beton"
        fields = {"image": RGBImageField("raw"), "label": IntField()}
        DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(Noise(arguments.images))
        loader = Loader(
            path,
            arguments.batch_size,
            num_workers=arguments.threads,
            order=OrderOption.RANDOM,
            seed=0,
            pipelines={"image": view(), "second": view()},
            custom_field_mapper={"second": "image"},
        )
        rates, costs = [], []
        for turn in range(arguments.turns + 1):
            wall, cpu, images = time.perf_counter(), time.process_time(), 0
            for batch in loader:
                images += len(batch.image)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if turn > 0:
                rates.append(images / wall)
                costs.append(cpu / images * 1000)
        loader.close()
    print(
        f"{statistics.median(rates):,.0f} images/s in two views, {statistics.median(costs):.4f} CPU s / 1000 images "
        f"({arguments.threads} threads, batches of {arguments.batch_size}, median of {arguments.turns} epochs)"
    )


if __name__ == "__main__":
    main()
