"""Torch modules and plain functions as operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ffcv.transforms.base import BatchTransform
from ffcv.transforms.form import Form


class ModuleWrapper(BatchTransform):
    """Applies a `torch.nn.Module` (kornia, torchvision v2, your own) to the batch, without gradients.

    One that works on tensors comes after `ToTensor()`, and after `ToTorchImage()`, where it expects images
    [B, 3, H, W]; before `ToTensor()` it is given the numpy array, as in the original.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"module must be a torch.nn.Module, got {module!r}; wrap a function in BatchFunction")
        self.module = module

    def after(self, form: Form) -> Form:
        if any(_of_image_libraries(self.module)):
            form.check_tensor(self)  # torchvision's would return arrays as they are
        is_unpermuted = form.holds_images and not form.channels_first and not form.is_foreign
        if is_unpermuted and any(_of_image_libraries(self.module)):
            warnings.warn(
                f"{self!r} takes images [B, 3, H, W], but they are [B, H, W, 3] there: put ToTorchImage() before it",
                stacklevel=2,
            )
        is_tensor = True if form.is_tensor else None
        return form.in_foreign_hands(is_tensor=is_tensor, rescaled_by=_rescaled_by(self.module, form.rescaled_by))

    def __call__(self, batch: Any) -> Any:
        is_array = isinstance(batch, np.ndarray)
        if is_array and any(_of_image_libraries(self.module)):
            raise TypeError(f"{self!r} works on tensors, got a numpy array: put ToTensor() before it")
        with torch.no_grad():
            try:
                return self.module(batch)
            except TypeError as error:
                if not is_array:
                    raise
                advice = "put ToTensor() before it, if it works on tensors"
                raise TypeError(f"{self!r} was given a numpy array ({advice}): {error}") from error

    def __repr__(self) -> str:
        return f"{type(self.module).__name__}()"


class BatchFunction(BatchTransform):
    """Applies a plain function to the batch: a numpy array or a tensor in (whatever the batch is there), one out.

    Image transforms after it work on what it returns, [B, H, W, 3] before `ToTorchImage` and [B, 3, H, W] after it, of
    any size, uint8 or float in 0..255.

    Args:
        function: Takes the batch, samples along the first axis, and returns the new one.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if not callable(function):
            raise ValueError(f"function must be callable, got {function!r}")
        self.function = function

    def after(self, form: Form) -> Form:
        return form.in_foreign_hands(is_tensor=None, rescaled_by=None)

    def __call__(self, batch: Any) -> Any:
        with torch.no_grad():
            result = self.function(batch)
        if result is None:
            raise TypeError(f"{self!r} returned None; the function must return the batch")
        return result

    def __repr__(self) -> str:
        return f"BatchFunction({getattr(self.function, '__name__', self.function)!s})"


def _of_image_libraries(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The module and its parts, as far as they are torchvision's or kornia's."""
    for part in module.modules():
        if type(part).__module__.partition(".")[0] in ("torchvision", "kornia"):
            yield part
            listed = getattr(part, "transforms", None)  # torchvision's containers keep their parts in a plain list
            for each in listed if isinstance(listed, list | tuple) else ():
                if isinstance(each, torch.nn.Module):
                    yield from _of_image_libraries(each)


def _rescaled_by(module: torch.nn.Module, before: str | None) -> str | None:
    """What has taken the values out of 0..255 after `module`, as far as its parts are known to do that."""
    result = before
    for part in _of_image_libraries(module):
        name, dtype = type(part).__name__, getattr(part, "dtype", None)
        if name == "Normalize":
            result = name
        elif name == "ConvertImageDtype" or (name == "ToDtype" and getattr(part, "scale", False)):
            result = None if dtype is torch.uint8 else name
    return result
