"""Crops of views that are tensors already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ffcv.transforms.base import TensorTransform
from ffcv.transforms.crops import RandomResizedCrop


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
        return np.broadcast_to(np.array(self.crop.output_size, np.int64), sizes.shape)

    def apply_torch(self, images: torch.Tensor, params: Any) -> torch.Tensor:
        mode = {"nearest": "nearest-exact"}.get(self.crop.interpolation, self.crop.interpolation)
        options: dict[str, Any] = {"mode": mode, "antialias": mode in ("bilinear", "bicubic")}
        parts = []
        for image, (top, left, height, width) in zip(images, self.crop.boxes(params).tolist(), strict=True):
            part = image[None, :, top : top + height, left : left + width].float()
            parts.append(torch.nn.functional.interpolate(part, self.crop.output_size, **options))
        result = torch.cat(parts)
        return result if images.is_floating_point() else result.round().clamp(0, 255).to(images.dtype)
