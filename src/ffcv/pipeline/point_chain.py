"""Neighbouring operations of a tail that are one kernel where the batch lies on a CUDA device and Triton is installed.

Torch comes with Triton there. Without it, and for everything else, each operation runs by itself, with the same values.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv.transforms.base import ImageTransform, Op
from ffcv.transforms.normalize import NormalizeImage
from ffcv.transforms.tensors import send


class PointChain(NamedTuple):
    """Operations on single pixels, and the normalisation that ends them.

    Attributes:
        length: steps of the tail that it stands for.
        channels_first: the batch is [B, 3, H, W], else [B, H, W, 3].
    """

    length: int
    ops: list[Op]
    normalize: NormalizeImage | None
    channels_first: bool

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch after all of them, in a new tensor of the same memory format."""
        triton_ops = _triton_ops()
        images = batch if self.channels_first else batch.permute(0, 3, 1, 2)
        tables = [triton_ops.table(code, parameters) for code, parameters in self.ops]
        last: list[np.ndarray] = (
            [] if self.normalize is None else [np.concatenate(self.normalize.output.scale_and_bias)]
        )
        dtype = torch.uint8 if self.normalize is None else self.normalize.torch_dtype
        sent = send([np.concatenate(tables, axis=1) if tables else np.zeros((len(images), 0)), *last], images.device)
        codes = [code for code, _ in self.ops]
        result = triton_ops.run(codes, sent[0], images, sent[1] if last else None, dtype)
        return result if self.channels_first else result.permute(0, 2, 3, 1)


def chain_at_start(steps: Sequence[Any], params: Mapping[str, Any], batch: Any) -> PointChain | None:
    """The longest chain that `steps`, the rest of a tail, begin with; None where each is to run by itself.

    Args:
        steps: `TailStep`s, `NormalizeImage` and others.
        params: by the names of the random ones.
        batch: what they are given.
    """
    if not (isinstance(batch, torch.Tensor) and batch.is_cuda and _triton_ops()):
        return None
    return find_chain(steps, params, batch)


def find_chain(steps: Sequence[Any], params: Mapping[str, Any], batch: torch.Tensor) -> PointChain | None:
    """`chain_at_start` of a tensor on any device."""
    if batch.dtype != torch.uint8 or batch.ndim != 4:
        return None
    ops: list[Op] = []
    channels_first: bool | None = None
    for length, each in enumerate(steps):
        if type(each) is NormalizeImage and each.channels_first is not None:  # a derived one may do anything
            first = each.channels_first if channels_first is None else channels_first
            return PointChain(length + 1, ops, each, first) if _fits(ops, batch, first) else None
        step, form = getattr(each, "step", None), getattr(each, "form", None)
        if step is None or form is None or form.is_foreign or not isinstance(step.transform, ImageTransform):
            break
        more = ops + step.transform.lower(params[step.name])
        if not _fits(more, batch, form.channels_first):
            break
        ops, channels_first = more, form.channels_first
    else:
        length = len(steps)
    return PointChain(length, ops, None, channels_first) if channels_first is not None else None


def _fits(ops: Sequence[Op], batch: torch.Tensor, channels_first: bool) -> bool:
    height, width = batch.shape[2:] if channels_first else batch.shape[1:3]
    return batch.shape[1 if channels_first else 3] == 3 and _triton_ops().fits([code for code, _ in ops], height, width)


@cache
def _triton_ops() -> Any:
    """`ffcv.transforms.triton_ops`, None without Triton."""
    try:
        return importlib.import_module("ffcv.transforms.triton_ops")
    except ImportError:
        return None
