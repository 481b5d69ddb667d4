"""A pipeline, compiled: which part the core renders, which part runs as batched Python.

A view is one element of the batch. `ImageView`s of one field are rendered together, from one decode of each image;
`ArrayView`s of an image field hold what was done, or masks; `ColumnView`s are decoded in numpy. All end with the
operations that could not be folded into rendering (`tail`).

Every view first draws all its parameters (`sample`), then works by them alone, so that they say what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ffcv import _core
from ffcv.fields.decoder import Decoder
from ffcv.pipeline.custom import CustomDecoder, CustomStep, StorageState
from ffcv.pipeline.operation import Operation
from ffcv.random import Stream, stream_id
from ffcv.transforms.base import (
    ArrayDecoder,
    BatchTransform,
    ImageDecoder,
    ImageTransform,
    Output,
    SampleTransform,
    TensorTransform,
)
from ffcv.transforms.crops import RandomResizedCrop, SimpleRGBImageDecoder
from ffcv.transforms.decoded_crop import DecodedCrop
from ffcv.transforms.labels import Label
from ffcv.transforms.module import ModuleWrapper
from ffcv.transforms.normalize import NormalizeImage
from ffcv.transforms.ops import ToTorchImage
from ffcv.transforms.validation import check_size

Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


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

    @property
    def name(self) -> str:
        return f"{self.position}:{self.transform.family}"

    def sample(self, key: BatchKey, sizes: np.ndarray) -> Any:
        draws = self.transform.draws
        parts = [stream.uniforms(key.samples, key.epoch, draws) for stream in self.streams] if draws else []
        u = np.concatenate(parts, axis=1) if parts else np.empty((len(key.samples), 0))
        return self.transform.sample(u, key.samples if isinstance(self.transform, SampleTransform) else sizes)


@dataclass(frozen=True)
class TailStep:
    """A random transform in the python tail, on whatever array or tensor the batch is by then."""

    step: Step
    channels_first: bool

    def __call__(self, batch: Any, params: Any) -> Any:
        transform = self.step.transform
        if isinstance(transform, SampleTransform):
            return transform.apply(batch, params)
        images = torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch
        images = images if self.channels_first else images.permute(0, 3, 1, 2)
        with torch.no_grad():
            images = transform.apply_torch(images, params)
        images = images if self.channels_first else images.permute(0, 2, 3, 1)
        return images.numpy() if isinstance(batch, np.ndarray) else images

    def __repr__(self) -> str:
        return repr(self.step.transform)


Tail = tuple[BatchTransform | TailStep | CustomStep, ...]


def _sample(steps: Sequence[Step | BatchTransform | TailStep | CustomStep], key: BatchKey, sizes: np.ndarray) -> Params:
    """The parameters of the random ones among `steps`; sizes: int64 [B, 2], of the view before the first."""
    params: Params = {}
    for each in steps:
        step = each.step if isinstance(each, TailStep) else each
        if isinstance(step, Step):
            params[step.name] = step.sample(key, sizes)
            if isinstance(step.transform, TensorTransform):
                sizes = step.transform.output_sizes(sizes)
    return params


@dataclass(frozen=True)
class ImageView:
    """An element of the batch that the core renders."""

    name: str
    field: str
    decoder: Step
    transforms: tuple[Step, ...]
    output: Output
    tail: Tail

    def sample(self, key: BatchKey, sizes: np.ndarray) -> Params:
        """Draws all parameters; sizes: int64 [B, 2], heights and widths of the source images."""
        params = {self.decoder.name: self.decoder.sample(key, sizes)}
        return params | _sample((*self.transforms, *self.tail), key, _view_sizes(self.decoder, len(key.samples)))

    def program(self, params: Params, allocate: Allocate) -> tuple[_core.View, np.ndarray]:
        """The core's program for one batch, and the array that it will fill.

        Args:
            params: What `sample` returned.
            allocate: Gives memory for the output.
        """
        crop = params[self.decoder.name]
        height, width = check_size("output_size", self.decoder.transform.output_size)
        ops = [op for step in self.transforms for op in step.transform.lower(params[step.name])]
        flips = None
        if ops and ops[0].code == _core.OpCode.flip_horizontal:  # free while resampling
            flips = (ops.pop(0).parameters[:, 0] == 1).astype(np.uint8)
        batch = len(crop[0])
        shape = (batch, 3, height, width) if self.output.channels_first else (batch, height, width, 3)
        out = allocate(shape, self.output.memory_dtype)
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
            pad=self.decoder.transform.pad,
            interpolation=_core.Interpolation[self.decoder.transform.interpolation],
        )
        return view, out

    def finish(self, rendered: np.ndarray, params: Params, key: BatchKey) -> Any:
        """What the batch holds: `rendered` as tensor and layout ask for, after the tail."""
        return _run(self.tail, self.output.wrap(rendered), params, key)

    def __str__(self) -> str:
        steps = " -> ".join(_title(step.transform) for step in (self.decoder, *self.transforms))
        layout = "[B, 3, H, W]" if self.output.channels_first else "[B, H, W, 3]"
        text = f"{self.name}: core: decode {self.field} -> {steps} -> {self.output.dtype} {layout}"
        return text + _tail_title(self.tail)


@dataclass(frozen=True)
class ArrayView:
    """An element of the batch that comes from an image's size and random numbers alone: parameters, masks."""

    name: str
    field: str
    decoder: Step
    labels: tuple[Step, ...]
    tail: Tail

    def sample(self, key: BatchKey, sizes: np.ndarray) -> Params:
        """Draws all parameters; sizes: int64 [B, 2], heights and widths of the source images."""
        params = {self.decoder.name: self.decoder.sample(key, sizes)}
        labels = _sample(self.labels, key, _view_sizes(self.decoder, len(key.samples))) if self.labels else {}
        return params | labels | _sample(self.tail, key, sizes)

    def finish(self, params: Params, key: BatchKey) -> Any:
        """The decoder's array; with labels, float32 [B, columns]: the array and each label's columns."""
        array = self.decoder.transform.array(params[self.decoder.name])
        if self.labels:
            tables = [step.transform.label(params[step.name]) for step in self.labels]
            array = np.concatenate([array, *tables], axis=1).astype(np.float32)
        return _run(self.tail, array, params, key)

    def __str__(self) -> str:
        steps = "".join(f" -> {step.transform!r}" for step in self.labels)
        return f"{self.name}: numpy: {_title(self.decoder.transform)} of {self.field}{steps}" + _tail_title(self.tail)


@dataclass(frozen=True)
class ColumnView:
    """An element of the batch that is no image: labels, arrays, bytes."""

    name: str
    field: str
    decoder: Decoder
    tail: Tail

    def sample(self, key: BatchKey) -> Params:
        """Draws all parameters."""
        return _sample(self.tail, key, np.zeros((len(key.samples), 2), np.int64))

    def finish(self, metadata: np.ndarray, read: Callable[[int], np.ndarray], params: Params, key: BatchKey) -> Any:
        """Decodes the batch's rows of the field's metadata column and runs the tail."""
        return _run(self.tail, self.decoder.decode(metadata, read), params, key)

    def __str__(self) -> str:
        return f"{self.name}: numpy: {type(self.decoder).__name__} of {self.field}" + _tail_title(self.tail)


@dataclass(frozen=True)
class CustomView:
    """An element of the batch that a user's `Operation` decodes."""

    name: str
    field: str
    decoder: CustomDecoder
    tail: Tail

    def sample(self, key: BatchKey) -> Params:
        """Draws all parameters."""
        return _sample(self.tail, key, np.zeros((len(key.samples), 2), np.int64))

    def finish(self, storage: StorageState, params: Params, key: BatchKey) -> Any:
        """Decodes the batch from its samples' bytes and runs the tail."""
        return _run(self.tail, self.decoder.decode(key, storage), params, key)

    def __str__(self) -> str:
        return f"{self.name}: custom: {_title(self.decoder.operation)} of {self.field}" + _tail_title(self.tail)


View = ImageView | ArrayView | ColumnView | CustomView


def compile_view(name: str, field: str, decoder: Any, operations: Sequence[Any], seed: int) -> View:
    """Splits a pipeline into what the core renders and what runs after it.

    Args:
        name: The view's name in the batch; names its random streams.
        field: The field it is decoded from.
        decoder: An `ImageDecoder`, an `ArrayDecoder` or a `Decoder`.
        operations: What follows the decoder, in order.
        seed: The loader's seed.

    Raises:
        ValueError, TypeError: An operation cannot stand where it stands; says why.
    """
    streams = _Streams(name, seed)
    rest = [ModuleWrapper(each) if isinstance(each, torch.nn.Module) else each for each in operations]
    if isinstance(decoder, Decoder):
        streams.step(None)
        return ColumnView(name, field, decoder, _tail(streams, rest, None))
    if isinstance(decoder, CustomDecoder):
        streams.step(None)
        return CustomView(name, field, decoder, _tail(streams, rest, None))
    if not isinstance(decoder, ImageDecoder | ArrayDecoder):
        raise TypeError(f"pipeline {name!r} must begin with a decoder, got {_title(decoder)}")
    if isinstance(decoder, SimpleRGBImageDecoder) and rest and isinstance(rest[0], RandomResizedCrop):
        decoder = rest.pop(0)  # a crop of the whole image: the core does it while decoding
    first = streams.step(decoder)
    kind = Label if isinstance(decoder, ArrayDecoder) else ImageTransform
    steps: list[Step] = []
    while rest and isinstance(rest[0], kind):
        steps.append(streams.step(rest.pop(0)))
    if isinstance(decoder, ArrayDecoder):
        if steps and not hasattr(decoder, "output_size"):
            raise ValueError(f"pipeline {name!r}: {steps[0].transform!r} needs LabelRandomResizedCrop or LabelDecoder")
        return ArrayView(name, field, first, tuple(steps), _tail(streams, rest, None))
    output = Output()
    while rest and isinstance(rest[0], BatchTransform) and (folded := rest[0].fold(output)) is not None:
        output = folded
        rest.pop(0)
    if not output.is_tensor and output.dtype == torch.bfloat16:
        raise ValueError(f"pipeline {name!r}: numpy has no bfloat16: put ToTensor() into the pipeline")
    tail = _tail(streams, rest, output)
    if getattr(decoder, "output_size", None) is not None:  # a trial: what does not fit the view fails here
        _sample((*steps, *tail), BatchKey(np.zeros(1, np.int64), 0), _view_sizes(first, 1))
    return ImageView(name, field, first, tuple(steps), output, tail)


class _Streams:
    """Gives a view's random transforms their streams, by their position among themselves."""

    def __init__(self, view: str, seed: int) -> None:
        self.view = view
        self.seed = seed
        self.count = 0

    def step(self, transform: Any) -> Step:
        position, self.count = self.count, self.count + 1
        if transform is None:
            return Step(None, position, ())
        family = stream_id("family", transform.family)
        if transform.seed is not None:
            own = Stream(transform.seed, family)
        elif getattr(transform, "shared", False):
            own = Stream(self.seed, family)
        else:
            own = Stream(self.seed, stream_id("view", self.view, position))
        return Step(transform, position, (own, *(Stream(seed, family) for seed in transform.further_seeds)))


def _tail(streams: _Streams, operations: Sequence[Any], output: Output | None) -> Tail:
    """What runs as batched Python; `output` is what rendering gives, None where the view holds no images."""
    name = streams.view
    channels_first = output is not None and output.is_torch_image
    normalised = output is not None and output.is_normalised
    result: list[BatchTransform | TailStep | CustomStep] = []
    for operation in operations:
        if isinstance(operation, RandomResizedCrop) and output is not None:
            operation = DecodedCrop(operation)
        if isinstance(operation, ImageDecoder | ArrayDecoder | Decoder):
            raise ValueError(f"pipeline {name!r}: the decoder {_title(operation)} must come first, and only once")
        if isinstance(operation, TensorTransform):
            if output is None or normalised:
                problem = "the pipeline holds no images" if output is None else "put it before NormalizeImage"
                raise ValueError(f"pipeline {name!r}: {_title(operation)} works on pixels in 0..255; {problem}")
            result.append(TailStep(streams.step(operation), channels_first))
        elif isinstance(operation, Operation):
            result.append(CustomStep(operation))
        elif isinstance(operation, SampleTransform):
            result.append(TailStep(streams.step(operation), channels_first))
        elif isinstance(operation, Label):
            raise ValueError(f"pipeline {name!r}: {operation!r} must follow LabelRandomResizedCrop or LabelDecoder")
        elif isinstance(operation, BatchTransform):
            channels_first = channels_first or isinstance(operation, ToTorchImage)
            normalised = normalised or isinstance(operation, NormalizeImage)
            result.append(operation)
        else:
            raise TypeError(
                f"pipeline {name!r}: {operation!r} is no operation of ffcv and no torch.nn.Module; "
                "wrap a plain function in BatchFunction"
            )
    return tuple(result)


def _view_sizes(decoder: Step, batch: int) -> np.ndarray:
    """int64 [B, 2]: heights and widths of the decoder's views."""
    return np.full((batch, 2), check_size("output_size", decoder.transform.output_size), np.int64)


def _run(tail: Tail, batch: Any, params: Params, key: BatchKey) -> Any:
    for each in tail:
        if isinstance(each, TailStep):
            batch = each(batch, params[each.step.name])
        elif isinstance(each, CustomStep):
            batch = each(batch, key)
        else:
            batch = each(batch)
    return batch


def _title(transform: Any) -> str:
    return type(transform).__name__


def _tail_title(tail: Tail) -> str:
    return "".join(f" -> python: {transform!r}" for transform in tail)
