"""Crops of views that are tensors already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ffcv.transforms.base import TensorTransform
from ffcv.transforms.crops import RandomResizedCrop
from ffcv.transforms.tensors import laid_out_as, send
from ffcv.transforms.validation import check_size

SLIVER = 1e-3  # shares of a pixel that OpenCV leaves out


@dataclass(frozen=True)
class DecodedCrop(TensorTransform):
    """A `RandomResizedCrop` that stands later in a pipeline than its decoder: crops and resizes tensors."""

    crop: RandomResizedCrop

    def __post_init__(self) -> None:
        for name in ("family", "seed", "draws", "further_seeds"):
            object.__setattr__(self, name, getattr(self.crop, name))

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> Any:
        return self.crop.sample(u, sizes)

    def output_sizes(self, sizes: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.array(self._size(), np.int64), sizes.shape)

    def apply_torch(self, images: torch.Tensor, params: Any) -> torch.Tensor:
        size = self._size()
        parts = [
            self._resized(image[None, :, top : top + height, left : left + width].float(), size)
            for image, (top, left, height, width) in zip(images, self.crop.boxes(params).tolist(), strict=True)
        ]
        result = torch.cat(parts).clamp_(0.0, 255.0)  # cubic filters overshoot
        return laid_out_as(images, result if images.is_floating_point() else result.round_())

    def _size(self) -> tuple[int, int]:
        return check_size("output_size", self.crop.output_size)  # which users change between epochs

    def _resized(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        mode = self.crop.interpolation
        if mode == "area":
            return _area(image, size)
        if mode == "nearest":
            return _nearest(image, size)
        if size[1] == 1 < size[0]:  # of one column, torch's vertical pass makes other pixels (CPU, as of 2.13)
            return self._resized(image.transpose(2, 3), (size[1], size[0])).transpose(2, 3)
        return torch.nn.functional.interpolate(image, size, mode=mode, antialias=True)


def _nearest(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pillow's, as the core does it; torch's 'nearest-exact' rounds otherwise where two pixels are as near."""
    before = (image.shape[2], image.shape[3])
    rows, columns = send([_positions(old, new) for old, new in zip(before, size, strict=True)], image.device)
    return image[:, :, rows.long()][:, :, :, columns.long()]


def _positions(old: int, new: int) -> np.ndarray:
    """int64 [new]: the nearest old pixel to each new one; summed up, as in Pillow and csrc/taps.cpp."""
    steps = np.full(new, old / new)
    steps[0] *= 0.5
    return np.minimum(np.cumsum(steps).astype(np.int64), old - 1)


def _area(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """OpenCV's INTER_AREA, as the core does it; torch's mode of that name averages whole pixels only."""
    before = (image.shape[2], image.shape[3])
    enlarging = size[0] > before[0] or size[1] > before[1]
    weights = [_area_weights(old, new, enlarging) for old, new in zip(before, size, strict=True)]
    down, across = send(weights, image.device)
    return down @ image @ across.T


def _area_weights(old: int, new: int, enlarging: bool) -> np.ndarray:
    """float64 [new, old]: the share of each old pixel in each new one; csrc/taps.cpp does the same."""
    scale = 1.0 / (new / old)  # OpenCV's roundings
    target, source = np.arange(new)[:, None], np.arange(old)[None, :]
    if enlarging:  # between two pixels, of which the first weighs most as long as it may
        first = np.minimum((target * scale).astype(np.int64), old - 1)
        fraction = ((target + 1) - (first + 1) / scale).astype(np.float32)
        fraction = np.where(fraction <= 0, 0.0, fraction - np.floor(fraction))
        shares = np.where(source == first, 1.0 - fraction, 0.0) + np.where(source == first + 1, fraction, 0.0)
    else:
        low, high = target * scale, np.minimum((target + 1) * scale, old)
        shares = np.maximum(0.0, np.minimum(source + 1.0, high) - np.maximum(source, low))
        shares[shares < SLIVER] = 0.0
    return shares / shares.sum(axis=1, keepdims=True)
