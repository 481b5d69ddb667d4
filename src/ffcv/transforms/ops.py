"""Arrays to tensors: type, layout, device."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from ffcv.transforms.base import BatchTransform, Output
from ffcv.transforms.form import Form
from ffcv.transforms.tensors import tensor_of


class ToTensor(BatchTransform):
    """numpy array -> torch tensor, which shares its memory where torch can (`tensor_of`)."""

    def fold(self, output: Output) -> Output | None:
        return output.with_(is_tensor=True)

    def after(self, form: Form) -> Form:
        return form.with_(is_tensor=True)

    def __call__(self, batch: Any) -> torch.Tensor:
        return tensor_of(batch)

    def __repr__(self) -> str:
        return "ToTensor()"


class ToTorchImage(BatchTransform):
    """[B, H, W, 3] -> [B, 3, H, W]; of arrays that are no images, [B, H, W, C] of any C.

    Args:
        channels_last: Keep the memory as [B, H, W, 3] (torch.channels_last) and only change the view.
        convert_back_int16: Accepted for the original's sake; float16 needs no disguise here.
    """

    channels: int | None = 3  # that it is given; None: any number

    def __init__(self, channels_last: bool = True, convert_back_int16: bool = True) -> None:
        self.channels_last = channels_last
        self.convert_back_int16 = convert_back_int16

    def fold(self, output: Output) -> Output | None:
        if not output.is_tensor or output.is_torch_image:
            return None
        return output.with_(channels_first=not self.channels_last, is_torch_image=True)

    def after(self, form: Form) -> Form:
        form.check_tensor(self)
        if form.holds_images and form.channels_first and not form.is_foreign:
            raise ValueError(f"{self!r} makes [B, 3, H, W] of [B, H, W, 3], which has happened before it: put it once")
        return form.with_(is_tensor=True, channels_first=True)

    def at(self, form: Form) -> ToTorchImage:
        placed = copy.copy(self)
        placed.channels = 3 if form.holds_images else None
        return placed

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        if not isinstance(batch, torch.Tensor) or batch.ndim != 4 or self.channels not in (None, batch.shape[-1]):
            raise ValueError(
                f"ToTorchImage takes a tensor [B, H, W, {self.channels or 'C'}], got {type(batch).__name__} "
                f"{list(getattr(batch, 'shape', []))}; put ToTensor() before it, and it only once"
            )
        image = batch.permute(0, 3, 1, 2)
        return image if self.channels_last else image.contiguous()

    def __repr__(self) -> str:
        return f"ToTorchImage(channels_last={self.channels_last})"


class ToDevice(BatchTransform):
    """Moves tensors to `device`; copies from pinned memory overlap with computing when `non_blocking`."""

    def __init__(self, device: torch.device | str | int, non_blocking: bool = True) -> None:
        self.device = torch.device(device)
        self.non_blocking = non_blocking

    def fold(self, output: Output) -> Output | None:
        return output if self.device.type == "cpu" and output.is_tensor else None

    def after(self, form: Form) -> Form:
        form.check_tensor(self)
        return form.with_(is_tensor=True)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.to(self.device, non_blocking=self.non_blocking)

    def __repr__(self) -> str:
        return f"ToDevice({self.device})"


class _Typed(BatchTransform):
    """What takes a dtype: torch's for tensors, numpy's (or what numpy makes one of) for arrays."""

    def __init__(self, target_dtype: Any) -> None:
        if not isinstance(target_dtype, torch.dtype):
            try:
                np.dtype(target_dtype)
            except TypeError:
                raise ValueError(f"target_dtype must be a torch or numpy dtype, got {target_dtype!r}") from None
        self.target_dtype = target_dtype

    def after(self, form: Form) -> Form:
        check = form.check_tensor if isinstance(self.target_dtype, torch.dtype) else form.check_array
        check(self)
        return form

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target_dtype})"


class Convert(_Typed):
    """Changes the dtype of the values: a torch dtype for tensors, a numpy dtype for arrays.

    The core itself writes uint8, float16, float32 and (tensors) bfloat16, rounded to nearest even.
    """

    def fold(self, output: Output) -> Output | None:
        return output.converted(self.target_dtype)

    def __call__(self, batch: Any) -> Any:
        dtype: Any = self.target_dtype
        return batch.astype(dtype) if isinstance(batch, np.ndarray) else batch.to(dtype)


class View(_Typed):
    """Reads the same bytes as another dtype: a torch dtype for tensors, a numpy dtype for arrays."""

    def __call__(self, batch: Any) -> Any:
        return batch.view(self.target_dtype)
