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
        resize, size = _area if self.crop.interpolation == "area" else self._interpolate, self._size()
        parts = [
            resize(image[None, :, top : top + height, left : left + width].float(), size)
            for image, (top, left, height, width) in zip(images, self.crop.boxes(params).tolist(), strict=True)
        ]
        result = torch.cat(parts).clamp_(0.0, 255.0)  # cubic filters overshoot
        return laid_out_as(images, result if images.is_floating_point() else result.round_())

    def _size(self) -> tuple[int, int]:
        return check_size("output_size", self.crop.output_size)  # which users change between epochs

    def _interpolate(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        mode = {"nearest": "nearest-exact"}.get(self.crop.interpolation, self.crop.interpolation)
        options: dict[str, Any] = {"mode": mode, "antialias": mode in ("bilinear", "bicubic")}
        return torch.nn.functional.interpolate(image, size, **options)


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
