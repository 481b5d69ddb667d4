"""What views are made of: random transforms with their streams, and the operations that run after rendering."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv.pipeline.custom import CustomStep
from ffcv.pipeline.point_chain import chain_at_start
from ffcv.random import Stream
from ffcv.transforms.base import BatchTransform, SampleTransform, TensorTransform
from ffcv.transforms.form import Form
from ffcv.transforms.tensors import tensor_of
from ffcv.transforms.validation import check_size


class BatchKey(NamedTuple):
    """Which samples, in which epoch: all that randomness depends on, beside the seed."""

    samples: np.ndarray  # int64 [B], indices in the dataset
    epoch: int
    counter: int = 0  # number of the batch in its epoch; only users' operations see it


Params = dict[str, Any]  # 'position:family' of a step -> its parameters


@dataclass(frozen=True)
class Step:
    """A random transform with its sources of random numbers: its own stream, and those of its further seeds."""

    transform: Any
    position: int  # among the view's random transforms, from 0
    streams: tuple[Stream, ...]

    @cached_property
    def name(self) -> str:
        return f"{self.position}:{self.transform.family}"

    def sample(self, key: BatchKey, sizes: np.ndarray) -> Any:
        draws = self.transform.draws
        parts = [stream.uniforms(key.samples, key.epoch, draws) for stream in self.streams] if draws else []
        u = parts[0] if len(parts) == 1 else np.concatenate([np.empty((len(key.samples), 0)), *parts], axis=1)
        return self.transform.sample(u, key.samples if isinstance(self.transform, SampleTransform) else sizes)


class RangeCheck:
    """Warns, once, of a first batch whose values are hardly pixels in 0..255: whatever users' code has made of it.

    Only the first, since looking at values makes the host wait for a GPU.
    """

    def __init__(self) -> None:
        self._done = False

    def __call__(self, images: torch.Tensor, operation: object) -> None:
        if self._done or not images.is_floating_point() or not images.numel():
            return
        self._done = True
        low, high = (float(value) for value in torch.aminmax(images))
        if low < 0 or high <= 1:
            warnings.warn(
                f"{operation!r} works on pixels in 0..255, but the first batch holds {low:.3g} to {high:.3g}: put it "
                "before what rescales them",
                stacklevel=2,
            )


@dataclass(frozen=True)
class TailStep:
    """A random transform in the python tail, on whatever array or tensor the batch is by then."""

    step: Step
    form: Form  # of what it is given
    check: RangeCheck = field(default_factory=RangeCheck, compare=False)

    def sample(self, key: BatchKey, batch: Any) -> Any:
        """The parameters for `batch`, where its size is known only when it is there."""
        sizes = np.zeros((len(key.samples), 2), np.int64)
        if len(shape := getattr(batch, "shape", ())) == 4:
            sizes[:] = shape[2:] if self.form.channels_first else shape[1:3]
        return self.step.sample(key, sizes)

    def __call__(self, batch: Any, params: Any) -> Any:
        transform = self.step.transform
        if isinstance(transform, SampleTransform):
            return transform.apply(batch, params)
        images = tensor_of(batch)
        images = images if self.form.channels_first else images.permute(0, 3, 1, 2)
        if self.form.is_foreign:
            self.check(images, transform)
        with torch.no_grad():
            images = transform.apply_torch(images, params)
        images = images if self.form.channels_first else images.permute(0, 2, 3, 1)
        return images.numpy() if isinstance(batch, np.ndarray) else images

    def __repr__(self) -> str:
        return repr(self.step.transform)


Tail = tuple[BatchTransform | TailStep | CustomStep, ...]


def sample_steps(
    steps: Sequence[Step | BatchTransform | TailStep | CustomStep], key: BatchKey, sizes: np.ndarray
) -> Params:
    """The parameters of the random ones among `steps`; sizes: int64 [B, 2], of the view before the first.

    Without those of steps behind users' code, which may change the size: `run_tail` draws them.
    """
    params: Params = {}
    for each in steps:
        if isinstance(each, TailStep) and each.form.is_foreign:
            continue
        step = each.step if isinstance(each, TailStep) else each
        if isinstance(step, Step):
            params[step.name] = step.sample(key, sizes)
            if isinstance(step.transform, TensorTransform):
                sizes = step.transform.output_sizes(sizes)
    return params


def view_sizes(decoder: Step, batch: int) -> np.ndarray:
    """int64 [B, 2]: heights and widths of the decoder's views."""
    sizes = np.empty((batch, 2), np.int64)
    sizes[:] = check_size("output_size", decoder.transform.output_size)
    return sizes


def run_tail(tail: Tail, batch: Any, params: Params, key: BatchKey) -> Any:
    """The batch after the tail; `params` get what is drawn on the way, `key` is what users' operations are told."""
    rest = tail
    while rest:
        each, length = rest[0], 1
        if chain := chain_at_start(rest, params, batch):
            batch, length = chain(batch), chain.length
        elif isinstance(each, TailStep):
            if each.form.is_foreign:
                params[each.step.name] = each.sample(key, batch)
            batch = each(batch, params[each.step.name])
        elif isinstance(each, CustomStep):
            batch = each(batch, key)
        else:
            batch = each(batch)
        rest = rest[length:]
    return batch


def title_of(transform: Any) -> str:
    return type(transform).__name__


def tail_title(tail: Tail) -> str:
    return "".join(f" -> python: {transform!r}" for transform in tail)
