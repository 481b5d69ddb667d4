"""Normalisation to float."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ffcv.transforms.base import BatchTransform, Output
from ffcv.transforms.form import Form
from ffcv.transforms.tensors import send

Numbers = Sequence[float] | np.ndarray
_TORCH_DTYPES = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}
_NUMPY_DTYPES = {of_torch: of_numpy for of_numpy, of_torch in _TORCH_DTYPES.items()}


_NO_BFLOAT16 = "numpy has no bfloat16: put ToTensor() before NormalizeImage, or choose another type"


class NormalizeImage(BatchTransform):
    """(pixel - mean) / std, computed in float32 as pixel * (1 / std) + (-mean / std).

    Args:
        mean: One number for each of R, G and B, on the 0..255 scale.
        std: Likewise, > 0.
        type: dtype of the result: float16 or float32, numpy's or torch's, or torch.bfloat16 (rounded to nearest even;
            for tensors, so with `ToTensor` in the pipeline).

    Takes arrays [B, H, W, 3], or tensors that are [B, H, W, 3] before `ToTorchImage` and [B, 3, H, W] after it, on any
    device.

    Raises:
        ValueError: An argument is out of range; or, when called, no axis of a tensor is that of the channels, or both
            may be and there is no pipeline that says which.
    """

    channels_first: bool | None = None  # of tensors whose shape leaves it open; None: not known

    def __init__(self, mean: Numbers, std: Numbers, type: Any) -> None:
        means, stds = _triple("mean", mean), _triple("std", std)
        if min(stds) <= 0:
            raise ValueError(f"std must be above 0, got {std!r}")
        if 0 < max(means) < 1 and max(stds) <= 1:
            warnings.warn(
                f"NormalizeImage takes pixels of 0..255, but mean {means} and std {stds} are of pixels in 0..1: "
                "multiply both by 255",
                stacklevel=2,
            )
        self.output = Output(_dtype(type), means, stds)

    def __repr__(self) -> str:
        return f"NormalizeImage({self.output.mean}, {self.output.std}, {self.output.dtype})"

    def fold(self, output: Output) -> Output | None:
        if output.dtype != np.uint8:
            return None
        return output.with_(dtype=self.output.dtype, mean=self.output.mean, std=self.output.std)

    def after(self, form: Form) -> Form:
        if isinstance(self.output.dtype, torch.dtype) and form.is_tensor is False:
            raise ValueError(_NO_BFLOAT16)
        return form.with_(rescaled_by="NormalizeImage")

    def at(self, form: Form) -> NormalizeImage:
        placed = copy.copy(self)
        placed.channels_first = form.channels_first if form.holds_images else None
        return placed

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of tensors that come out."""
        dtype = self.output.dtype
        return dtype if isinstance(dtype, torch.dtype) else _TORCH_DTYPES[dtype]

    def __call__(self, batch: Any) -> Any:
        scale, bias = self.output.scale_and_bias
        dtype = self.output.dtype
        if isinstance(batch, np.ndarray):
            if isinstance(dtype, torch.dtype):
                raise ValueError(_NO_BFLOAT16)
            return (batch.astype(np.float32) * scale + bias).astype(dtype)
        shape = (3, 1, 1) if self._is_channels_first(list(batch.shape)) else (3,)
        factor, offset = (values.view(shape) for values in send((scale, bias), batch.device))
        return (batch.float() * factor + offset).to(self.torch_dtype)

    def _is_channels_first(self, shape: list[int]) -> bool:
        first, last = len(shape) > 2 and shape[-3] == 3, shape[-1] == 3
        if first != last:
            return first
        if not first or self.channels_first is None:
            problem = "both axes may be the channels'" if first else "neither is that"
            raise ValueError(f"NormalizeImage takes images [B, H, W, 3] or [B, 3, H, W]; got {shape}: {problem}")
        return self.channels_first


def _dtype(type: Any) -> np.dtype | torch.dtype:
    if type is torch.bfloat16:
        return type
    try:
        dtype = np.dtype(_NUMPY_DTYPES.get(type, type))
    except TypeError:  # what numpy makes no dtype of
        dtype = None
    if dtype is None or dtype not in _TORCH_DTYPES:
        raise ValueError(f"type must be np.float16, np.float32 or torch.bfloat16, got {type!r}")
    return dtype


def _triple(name: str, values: Numbers) -> tuple[float, float, float]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be three finite numbers (R, G, B), got {values!r}")
    red, green, blue = numbers.tolist()
    return red, green, blue
