"""From a pipeline as users write it to a view: what the core can render, and what has to run after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ffcv.fields.decoder import Decoder
from ffcv.pipeline.custom import CustomDecoder, CustomStep
from ffcv.pipeline.steps import BatchKey, Step, Tail, TailStep, sample_steps, title_of, view_sizes
from ffcv.pipeline.views import ArrayView, ColumnView, CustomView, ImageView, View
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


def compile_view(name: str, field: str, decoder: Any, operations: Sequence[Any], seed: int) -> View:
    """Splits a pipeline into what the core renders and what runs after it.

    Args:
        name: The view's name in the batch; names its random streams.
        field: The field it is decoded from.
        decoder: An `ImageDecoder`, an `ArrayDecoder` or a `Decoder`.
        operations: What follows the decoder, in order; users' `Operation`s as `CustomStep`s.
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
        raise TypeError(f"pipeline {name!r} must begin with a decoder, got {title_of(decoder)}")
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
    if not output.is_tensor and output.dtype is torch.bfloat16:
        raise ValueError(f"pipeline {name!r}: numpy has no bfloat16: put ToTensor() into the pipeline")
    tail = _tail(streams, rest, output)
    if getattr(decoder, "output_size", None) is not None:  # a trial: what does not fit the view fails here
        sample_steps((*steps, *tail), BatchKey(np.zeros(1, np.int64), 0), view_sizes(first, 1))
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
            raise ValueError(f"pipeline {name!r}: the decoder {title_of(operation)} must come first, and only once")
        if isinstance(operation, TensorTransform):
            if output is None or normalised:
                problem = "the pipeline holds no images" if output is None else "put it before NormalizeImage"
                raise ValueError(f"pipeline {name!r}: {title_of(operation)} works on pixels in 0..255; {problem}")
            result.append(TailStep(streams.step(operation), channels_first))
        elif isinstance(operation, CustomStep):
            result.append(operation)
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
