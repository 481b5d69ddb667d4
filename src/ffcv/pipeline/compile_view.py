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
from ffcv.transforms.form import Form
from ffcv.transforms.labels import Label, LabelDecoder
from ffcv.transforms.module import ModuleWrapper
from ffcv.transforms.validation import MOST_DRAWS


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
        shipped = type(decoder).__module__.startswith("ffcv.")  # users' own may return anything
        return ColumnView(name, field, decoder, _tail(streams, rest, Form(is_tensor=False if shipped else None)))
    if isinstance(decoder, CustomDecoder):
        streams.step(None)
        images = Form(is_tensor=None, holds_images=True, is_foreign=True)  # or whatever else the user decodes
        return CustomView(name, field, decoder, _tail(streams, rest, images))
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
        for step in (first, *steps):
            _check_label(name, step.transform)
        return ArrayView(name, field, first, tuple(steps), _tail(streams, rest, Form(is_tensor=False)))
    output = Output()
    while rest and isinstance(rest[0], BatchTransform) and (folded := rest[0].fold(output)) is not None:
        output = folded
        rest.pop(0)
    if not output.is_tensor and output.dtype is torch.bfloat16:
        raise ValueError(f"pipeline {name!r}: numpy has no bfloat16: put ToTensor() into the pipeline")
    tail = _tail(streams, rest, output.form)
    if getattr(decoder, "output_size", None) is not None:  # a trial: what does not fit the view fails here
        sample_steps((*steps, *tail), BatchKey(np.zeros(1, np.int64), 0), view_sizes(first, 1))
    return ImageView(name, field, first, tuple(steps), output, tail)


def _check_label(name: str, transform: Any) -> None:
    if isinstance(transform, Label | LabelDecoder) and transform.draws and transform.seed is None:
        raise ValueError(
            f"pipeline {name!r}: {transform!r} needs the seed of the operation that it describes, or it would describe "
            "draws of its own: give seed= to both, or take Loader(return_params=True)"
        )


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
        if transform.draws > MOST_DRAWS:
            raise ValueError(
                f"pipeline {self.view!r}: {transform!r} draws {transform.draws} numbers a sample, at most {MOST_DRAWS} "
                "are allowed"
            )
        family = stream_id("family", transform.family)
        if transform.seed is not None:
            own = Stream(int(transform.seed), family)  # numpy's numbers do not take the key's 64 bits
        elif getattr(transform, "shared", False):
            own = Stream(self.seed, family)
        else:
            own = Stream(self.seed, stream_id("view", self.view, position))
        return Step(transform, position, (own, *(Stream(int(seed), family) for seed in transform.further_seeds)))


def _tail(streams: _Streams, operations: Sequence[Any], form: Form) -> Tail:
    """What runs as batched Python, on a batch that begins as `form`."""
    result: list[BatchTransform | TailStep | CustomStep] = []
    for operation in operations:
        try:
            step, form = _tail_step(streams, operation, form)
        except (TypeError, ValueError) as error:
            raise type(error)(f"pipeline {streams.view!r}: {error}") from None
        result.append(step)
    return tuple(result)


def _tail_step(streams: _Streams, operation: Any, form: Form) -> tuple[BatchTransform | TailStep | CustomStep, Form]:
    """One operation on a batch of `form`, and the form after it."""
    if isinstance(operation, RandomResizedCrop) and form.holds_images:
        operation = DecodedCrop(operation)
    if isinstance(operation, ImageDecoder | ArrayDecoder | Decoder):
        raise ValueError(f"the decoder {title_of(operation)} must come first, and only once")
    if isinstance(operation, TensorTransform):
        if not form.holds_images or form.rescaled_by:
            problem = f"put it before {form.rescaled_by}" if form.holds_images else "the pipeline holds no images"
            raise ValueError(f"{title_of(operation)} works on pixels in 0..255; {problem}")
        return TailStep(streams.step(operation), form), form
    if isinstance(operation, SampleTransform):
        return TailStep(streams.step(operation), form), form
    if isinstance(operation, CustomStep):
        return operation, form.in_foreign_hands(is_tensor=None, rescaled_by=None)
    if isinstance(operation, Label):
        raise ValueError(f"{operation!r} must follow LabelRandomResizedCrop or LabelDecoder")
    if isinstance(operation, BatchTransform):
        return operation.at(form), operation.after(form)
    raise TypeError(
        f"{operation!r} is no operation of ffcv and no torch.nn.Module; wrap a plain function in BatchFunction"
    )
