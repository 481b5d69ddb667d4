"""Shapes."""

from __future__ import annotations

from typing import Any

from ffcv.transforms.base import BatchTransform
from ffcv.transforms.validation import check_count

MOST_AXES = 64  # of an array or tensor


class Squeeze(BatchTransform):
    """Removes axes of length 1: those named, or all but the first, which counts the samples."""

    def __init__(self, *dims: int) -> None:
        for dim in dims:
            check_count("dims", dim, -MOST_AXES, MOST_AXES - 1)
        self.dims = tuple(map(int, dims))

    def __call__(self, batch: Any) -> Any:
        dims = self.dims or tuple(axis for axis in range(1, batch.ndim) if batch.shape[axis] == 1)
        return batch.squeeze(dims)

    def __repr__(self) -> str:
        return f"Squeeze({', '.join(map(str, self.dims))})"
