"""Normalisation to float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ffcv.transforms.base import BatchTransform, Output

Numbers = Sequence[float] | np.ndarray
_TORCH_DTYPES = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}


class NormalizeImage(BatchTransform):
    """(pixel - mean) / std, computed in float32 as pixel * (1 / std) + (-mean / std).

    Args:
        mean: One number for each of R, G and B, on the 0..255 scale.
        std: Likewise, > 0.
        type: dtype of the result: np.float16, np.float32, or torch.bfloat16 (rounded to nearest even; for tensors, so
            with `ToTensor` in the pipeline).

    Takes arrays or tensors uint8 [B, H, W, 3] before `ToTorchImage`, or tensors [B, 3, H, W] after it, on any device.
    """

    def __init__(self, mean: Numbers, std: Numbers, type: Any) -> None:
        means, stds = _triple("mean", mean), _triple("std", std)
        if min(stds) <= 0:
            raise ValueError(f"std must be above 0, got {std!r}")
        if type is torch.bfloat16:
            dtype = torch.bfloat16
        elif isinstance(type, torch.dtype) or np.dtype(type) not in _TORCH_DTYPES:
            raise ValueError(f"type must be np.float16, np.float32 or torch.bfloat16, got {type!r}")
        else:
            dtype = np.dtype(type)
        self.output = Output(dtype, means, stds)

    def __repr__(self) -> str:
        return f"NormalizeImage({self.output.mean}, {self.output.std}, {self.output.dtype})"

    def fold(self, output: Output) -> Output | None:
        if output.dtype != np.uint8:
            return None
        return output.with_(dtype=self.output.dtype, mean=self.output.mean, std=self.output.std)

    def __call__(self, batch: Any) -> Any:
        scale, bias = self.output.scale_and_bias
        dtype = self.output.dtype
        if isinstance(batch, np.ndarray):
            if isinstance(dtype, torch.dtype):
                raise ValueError("numpy has no bfloat16: put ToTensor() before NormalizeImage, or choose another type")
            return (batch.astype(np.float32) * scale + bias).astype(dtype)
        shape = (3,) if batch.shape[-1] == 3 and batch.shape[1] != 3 else (3, 1, 1)
        factor = torch.from_numpy(scale).to(batch.device).view(shape)
        offset = torch.from_numpy(bias).to(batch.device).view(shape)
        return (batch.float() * factor + offset).to(_TORCH_DTYPES.get(dtype, dtype))


def _triple(name: str, values: Numbers) -> tuple[float, float, float]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be three finite numbers (R, G, B), got {values!r}")
    red, green, blue = numbers.tolist()
    return red, green, blue
