"""Albumentations on OpenCV images, in a torch DataLoader with worker processes.

Not part of the development environment: benchmarks/views.py says how to install it beside.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from workloads import BATCH_SIZE, LARGE_CROPS, MEAN, SMALL_CROPS, STD, Source

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
from albumentations.pytorch import ToTensorV2


def _simclr(size: int, scale: tuple[float, float], *more: A.BasicTransform) -> A.Compose:
    mean, std = tuple(m / 255 for m in MEAN), tuple(s / 255 for s in STD)
    return A.Compose(
        [
            A.RandomResizedCrop((size, size), scale=scale),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), p=0.8),
            A.ToGray(p=0.2),
            *more,
            A.Normalize(mean, std),
            ToTensorV2(),
        ]
    )


def _views(workload: str) -> list[A.Compose]:
    blur, solarize = A.GaussianBlur((23, 23), (0.1, 2.0), p=1.0), A.Solarize((128 / 255, 128 / 255), p=0.2)
    if workload == "P1":
        return [A.Compose([A.RandomResizedCrop((224, 224)), A.HorizontalFlip(p=0.5), ToTensorV2()])]
    if workload == "P4":
        return [A.Compose([A.SmallestMaxSize(256), A.CenterCrop(224, 224), ToTensorV2()])]
    if workload == "P3":
        large, small = _simclr(224, LARGE_CROPS, blur), _simclr(96, SMALL_CROPS, blur)
        return [large, large, *[small] * 8]
    full = (0.08, 1.0)
    return [_simclr(224, full, *([blur] if workload == "P2b" else [])), _simclr(224, full, solarize)]


class _Photos(torch.utils.data.Dataset):
    def __init__(self, files: list[Path], views: list[A.Compose]) -> None:
        self.files, self.views = files, views

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        image = cv2.cvtColor(cv2.imread(str(self.files[index]), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return [view(image=image)["image"] for view in self.views]


def loader(workload: str, source: Source, threads: int) -> torch.utils.data.DataLoader:
    """Batches whose first element is a view of each image."""
    cv2.setNumThreads(0)
    dataset = _Photos(source.files, _views(workload))
    return torch.utils.data.DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=threads, persistent_workers=True)
