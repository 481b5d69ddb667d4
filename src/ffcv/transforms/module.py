"""Torch modules and plain functions as operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ffcv.transforms.base import BatchTransform


class ModuleWrapper(BatchTransform):
    """Applies a `torch.nn.Module` (kornia, torchvision v2, your own) to the batch's tensor, without gradients."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.module(batch)

    def __repr__(self) -> str:
        return f"{type(self.module).__name__}()"


class BatchFunction(BatchTransform):
    """Applies a plain function to the batch: a numpy array or a tensor in (whatever the batch is there), one out.

    Image transforms after it work on what it returns, [B, H, W, 3] before `ToTorchImage` and [B, 3, H, W] after it,
    uint8 or float in 0..255.

    Args:
        function: Takes the batch, samples along the first axis, and returns the new one.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if not callable(function):
            raise ValueError(f"function must be callable, got {function!r}")
        self.function = function

    def __call__(self, batch: Any) -> Any:
        with torch.no_grad():
            return self.function(batch)

    def __repr__(self) -> str:
        return f"BatchFunction({getattr(self.function, '__name__', self.function)!s})"
