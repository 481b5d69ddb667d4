"""From numpy to torch: whole batches, and the small tables of numbers that operations need where the batch is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def tensor_of(batch: Any) -> torch.Tensor:
    """`batch` as a tensor: shares an array's memory, unless torch cannot (negative strides) or must not (read-only)."""
    if not isinstance(batch, np.ndarray):
        return torch.as_tensor(batch)
    shareable = batch.flags.writeable and all(stride >= 0 for stride in batch.strides)
    return torch.from_numpy(batch if shareable else np.array(batch, order="C"))


def laid_out_as(images: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """`result` [B, 3, h, w] with the dtype of `images` [B, 3, H, W], and their channels first or last in memory."""
    is_last = 0 < images.stride(1) < images.stride(3)
    layout = torch.channels_last if is_last else torch.contiguous_format
    return result.to(images.dtype, memory_format=layout)


def send(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """The arrays as float32 tensors on `device`: one copy for all, for which neither the host nor the GPU waits."""
    if not arrays:
        return []
    flat = np.concatenate([array.astype(np.float32, copy=False).ravel() for array in arrays])
    host = torch.from_numpy(flat)
    there = (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)
    parts = there.split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]
