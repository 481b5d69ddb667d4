"""Torch modules as operations."""

from __future__ import annotations

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
