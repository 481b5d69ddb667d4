"""A pipeline, compiled: which part the core renders, which part runs as batched Python.

A view is one element of the batch. `ImageView`s of one field are rendered together, from one decode of each image;
`ColumnView`s are decoded in numpy. Both end with the operations that could not be folded into rendering (`tail`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv import _core
from ffcv.fields.decoder import Decoder
from ffcv.random import Stream, stream_id
from ffcv.transforms.base import BatchTransform, ImageDecoder, ImageTransform, Output, RandomTransform
from ffcv.transforms.module import ModuleWrapper
from ffcv.transforms.validation import check_size

Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


class BatchKey(NamedTuple):
    """Which samples, in which epoch: all that randomness depends on, beside the seed."""

    samples: np.ndarray  # int64 [B], indices in the dataset
    epoch: int


@dataclass(frozen=True)
class Step:
    """A random transform with its source of random numbers."""

    transform: Any
    stream: Stream

    def sample(self, key: BatchKey, sizes: np.ndarray) -> Any:
        draws = self.transform.draws
        u = self.stream.uniforms(key.samples, key.epoch, draws) if draws else np.empty((len(key.samples), 0))
        return self.transform.sample(u, sizes)


@dataclass(frozen=True)
class ImageView:
    """An element of the batch that the core renders."""

    name: str
    field: str
    decoder: Step
    transforms: tuple[Step, ...]
    output: Output
    tail: tuple[BatchTransform, ...]

    def program(self, key: BatchKey, sizes: np.ndarray, allocate: Allocate) -> tuple[_core.View, np.ndarray]:
        """The core's program for one batch, and the array that it will fill.

        Args:
            key: The batch.
            sizes: int64 [B, 2], heights and widths of the source images.
            allocate: Gives memory for the output.
        """
        crop = self.decoder.sample(key, sizes)
        height, width = check_size("output_size", self.decoder.transform.output_size)
        view_sizes = np.full((len(key.samples), 2), (height, width), np.int64)
        ops = [op for step in self.transforms for op in step.transform.lower(step.sample(key, view_sizes))]
        flips = None
        if ops and ops[0].code == _core.OpCode.flip_horizontal:  # free while resampling
            flips = ops.pop(0).parameters[:, 0].astype(np.uint8)
        batch = len(key.samples)
        shape = (batch, 3, height, width) if self.output.channels_first else (batch, height, width, 3)
        out = allocate(shape, self.output.dtype)
        scale, bias = self.output.scale_and_bias
        boxes = self.decoder.transform.boxes(crop)
        view = _core.View(
            boxes,
            flips,
            height,
            width,
            ops,
            out,
            self.output.channels_first,
            scale.tolist(),
            bias.tolist(),
            interpolation=_core.Interpolation[self.decoder.transform.interpolation],
        )
        return view, out

    def finish(self, rendered: np.ndarray) -> Any:
        """What the batch holds: `rendered` as tensor and layout ask for, after the tail."""
        batch: Any = torch.from_numpy(rendered) if self.output.is_tensor else rendered
        if self.output.is_torch_image and not self.output.channels_first:
            batch = batch.permute(0, 3, 1, 2)
        return _run(self.tail, batch)

    def __str__(self) -> str:
        steps = " -> ".join(_title(step.transform) for step in (self.decoder, *self.transforms))
        layout = "[B, 3, H, W]" if self.output.channels_first else "[B, H, W, 3]"
        text = f"{self.name}: core: decode {self.field} -> {steps} -> {self.output.dtype} {layout}"
        return text + _tail_title(self.tail)


@dataclass(frozen=True)
class ColumnView:
    """An element of the batch that is no image: labels, arrays, bytes."""

    name: str
    field: str
    decoder: Decoder
    tail: tuple[BatchTransform, ...]

    def finish(self, metadata: np.ndarray, read: Callable[[int], np.ndarray]) -> Any:
        """Decodes the batch's rows of the field's metadata column and runs the tail."""
        return _run(self.tail, self.decoder.decode(metadata, read))

    def __str__(self) -> str:
        return f"{self.name}: numpy: {type(self.decoder).__name__} of {self.field}" + _tail_title(self.tail)


View = ImageView | ColumnView


def compile_view(name: str, field: str, decoder: Any, operations: Sequence[Any], seed: int) -> View:
    """Splits a pipeline into what the core renders and what runs after it.

    Args:
        name: The view's name in the batch; names its random streams.
        field: The field it is decoded from.
        decoder: An `ImageDecoder` or a `Decoder`.
        operations: What follows the decoder, in order.
        seed: The loader's seed.

    Raises:
        ValueError, TypeError: An operation cannot stand where it stands; says why.
    """
    if isinstance(decoder, Decoder):
        return ColumnView(name, field, decoder, _batch_transforms(name, operations))
    if not isinstance(decoder, ImageDecoder):
        raise TypeError(f"pipeline {name!r} must begin with a decoder, got {_title(decoder)}")

    def step(transform: RandomTransform, position: int) -> Step:
        if transform.seed is None:
            return Step(transform, Stream(seed, stream_id("view", name, position)))
        return Step(transform, Stream(transform.seed, stream_id("family", transform.family)))

    rest = list(operations)
    transforms: list[Step] = []
    while rest and isinstance(rest[0], ImageTransform):
        transforms.append(step(rest.pop(0), len(transforms) + 1))
    output = Output()
    while rest and isinstance(rest[0], BatchTransform) and (folded := rest[0].fold(output)) is not None:
        output = folded
        rest.pop(0)
    return ImageView(name, field, step(decoder, 0), tuple(transforms), output, _batch_transforms(name, rest))


def _batch_transforms(name: str, operations: Sequence[Any]) -> tuple[BatchTransform, ...]:
    result = []
    for operation in operations:
        wrapped = ModuleWrapper(operation) if isinstance(operation, torch.nn.Module) else operation
        if isinstance(wrapped, ImageDecoder | Decoder):
            raise ValueError(f"pipeline {name!r}: the decoder {_title(wrapped)} must come first, and only once")
        if isinstance(wrapped, ImageTransform):
            raise ValueError(
                f"pipeline {name!r}: {_title(wrapped)} works on the decoded uint8 image; put it directly after the "
                "image's decoder and before ToTensor, NormalizeImage and other batch operations"
            )
        if not isinstance(wrapped, BatchTransform):
            raise TypeError(f"pipeline {name!r}: {wrapped!r} is no operation of ffcv and no torch.nn.Module")
        result.append(wrapped)
    return tuple(result)


def _run(tail: Sequence[BatchTransform], batch: Any) -> Any:
    for transform in tail:
        batch = transform(batch)
    return batch


def _title(transform: Any) -> str:
    return type(transform).__name__


def _tail_title(tail: Sequence[BatchTransform]) -> str:
    return "".join(f" -> python: {transform!r}" for transform in tail)
