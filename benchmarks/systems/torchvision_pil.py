"""torchvision v2 on Pillow images, in a torch DataLoader with worker processes: what most people run."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

from workloads import BATCH_SIZE, LARGE_CROPS, MEAN, SMALL_CROPS, STD, Source

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from torchvision_reference import v2


def _simclr(size: int, scale: tuple[float, float], *more: object) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=scale, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            *more,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([m / 255 for m in MEAN], [s / 255 for s in STD]),
        ]
    )


def _views(workload: str) -> list[v2.Compose]:
    if workload == "P1":
        return [v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(0.5), v2.PILToTensor()])]
    if workload == "P4":
        return [v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224), v2.PILToTensor()])]
    blur, full = v2.GaussianBlur(23, (0.1, 2.0)), (0.08, 1.0)
    if workload == "P3":
        large, small = _simclr(224, LARGE_CROPS, blur), _simclr(96, SMALL_CROPS, blur)
        return [large, large, *[small] * 8]
    return [_simclr(224, full, *([blur] if workload == "P2b" else [])), _simclr(224, full, v2.RandomSolarize(128, 0.2))]


class _Photos(torch.utils.data.Dataset):
    def __init__(self, files: list[Path], views: list[v2.Compose]) -> None:
        self.files, self.views = files, views

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        image = Image.open(self.files[index]).convert("RGB")
        return [view(image) for view in self.views]


def loader(workload: str, source: Source, threads: int) -> torch.utils.data.DataLoader:
    """Batches whose first element is a view of each image."""
    dataset = _Photos(source.files, _views(workload))
    return torch.utils.data.DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=threads, persistent_workers=True)
