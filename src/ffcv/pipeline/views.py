"""The elements of a batch: which part the core renders, which part runs as batched Python.

`ImageView`s of one field are rendered together, from one decode of each image; `ArrayView`s of an image field hold what
was done, or masks; `ColumnView`s are decoded in numpy; `CustomView`s by a user's code. All end with the operations that
could not be folded into rendering (`tail`).

Every view first draws its parameters (`sample`; those of steps behind users' code when that has run, since it may
change the size), then works by them alone, so that they say what was done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ffcv import _core
from ffcv.fields.decoder import Decoder
from ffcv.pipeline.custom import CustomDecoder, StorageState
from ffcv.pipeline.steps import BatchKey, Params, Step, Tail, run_tail, sample_steps, tail_title, title_of, view_sizes
from ffcv.transforms.base import Op, Output, side_by_side
from ffcv.transforms.validation import check_size

Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


class Lowered(NamedTuple):
    """A view of a batch, as far as it is settled before there is memory for it."""

    boxes: np.ndarray  # int32 [B, 4]
    flips: np.ndarray | None  # uint8 [B]
    height: int
    width: int
    ops: list[Op]


@dataclass(frozen=True)
class ImageView:
    """An element of the batch that the core renders."""

    name: str
    field: str
    decoder: Step
    transforms: tuple[Step, ...]
    output: Output
    tail: Tail

    def sample(self, key: BatchKey, rows: np.ndarray) -> Params:
        """Draws all parameters; rows: [B], the metadata of all fields."""
        params = {self.decoder.name: self.decoder.sample(key, image_sizes(rows[self.field]))}
        steps = (*self.transforms, *self.tail)
        return params | sample_steps(steps, key, view_sizes(self.decoder, len(key.samples))) if steps else params

    def lower(self, params: Params) -> Lowered:
        """What the core is to do by `params`, which `sample` returned."""
        crop = params[self.decoder.name]
        height, width = check_size("output_size", self.decoder.transform.output_size)
        ops = [op for step in self.transforms for op in step.transform.lower(params[step.name])]
        flips = None
        if ops and ops[0].code == _core.OpCode.flip_horizontal:  # free while resampling
            flips = (ops.pop(0).parameters[:, 0] == 1).astype(np.uint8)
        return Lowered(self.decoder.transform.boxes(crop), flips, height, width, ops)

    def program(self, lowered: Lowered, allocate: Allocate) -> tuple[_core.View, np.ndarray]:
        """The core's program for one batch, and the array that it will fill; `allocate` gives memory for it."""
        batch, height, width = len(lowered.boxes), lowered.height, lowered.width
        shape = (batch, 3, height, width) if self.output.channels_first else (batch, height, width, 3)
        out = allocate(shape, self.output.memory_dtype)
        scale, bias = self.output.scale_and_bias
        view = _core.View(
            *lowered,
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
        return run_tail(self.tail, self.output.wrap(rendered), params, key)

    def __str__(self) -> str:
        steps = " -> ".join(repr(step.transform) for step in (self.decoder, *self.transforms))
        layout = "[B, 3, H, W]" if self.output.is_torch_image else "[B, H, W, 3]"
        memory = ", channels last in memory" * (self.output.is_torch_image and not self.output.channels_first)
        text = f"{self.name}: core: decode {self.field} -> {steps} -> {self.output.dtype} {layout}{memory}"
        return text + tail_title(self.tail)


@dataclass(frozen=True)
class ArrayView:
    """An element of the batch that comes from an image's size and random numbers alone: parameters, masks."""

    name: str
    field: str
    decoder: Step
    labels: tuple[Step, ...]
    tail: Tail

    def sample(self, key: BatchKey, rows: np.ndarray) -> Params:
        """As `ImageView.sample`."""
        sizes = image_sizes(rows[self.field])
        params = {self.decoder.name: self.decoder.sample(key, sizes)}
        labels = sample_steps(self.labels, key, view_sizes(self.decoder, len(key.samples))) if self.labels else {}
        return params | labels | sample_steps(self.tail, key, sizes)

    def finish(self, params: Params, key: BatchKey) -> Any:
        """The decoder's array; with labels, float32 [B, columns]: the array and each label's columns."""
        array = self.decoder.transform.array(params[self.decoder.name])
        if self.labels:
            tables = [step.transform.label(params[step.name]) for step in self.labels]
            array = np.concatenate([array, *tables], axis=1).astype(np.float32)
        return run_tail(self.tail, array, params, key)

    def __str__(self) -> str:
        steps = "".join(f" -> {step.transform!r}" for step in self.labels)
        return f"{self.name}: numpy: {self.decoder.transform!r} of {self.field}{steps}" + tail_title(self.tail)


@dataclass(frozen=True)
class ColumnView:
    """An element of the batch that is no image: labels, arrays, bytes."""

    name: str
    field: str
    decoder: Decoder
    tail: Tail

    def sample(self, key: BatchKey, rows: np.ndarray) -> Params:
        """As `ImageView.sample`."""
        del rows
        return sample_steps(self.tail, key, np.zeros((len(key.samples), 2), np.int64))

    def finish(self, metadata: np.ndarray, read: Callable[[int], np.ndarray], params: Params, key: BatchKey) -> Any:
        """Decodes the batch's rows of the field's metadata column and runs the tail."""
        return run_tail(self.tail, self.decoder.decode(metadata, read), params, key)

    def __str__(self) -> str:
        return f"{self.name}: numpy: {type(self.decoder).__name__} of {self.field}" + tail_title(self.tail)


@dataclass(frozen=True)
class CustomView:
    """An element of the batch that a user's `Operation` decodes."""

    name: str
    field: str
    decoder: CustomDecoder
    tail: Tail

    def sample(self, key: BatchKey, rows: np.ndarray) -> Params:
        """Nothing yet: only what has been decoded has a size, so that the tail draws as it goes."""
        del key, rows
        return {}

    def finish(self, storage: StorageState, params: Params, key: BatchKey) -> Any:
        """Decodes the batch from its samples' bytes and runs the tail, which puts what it draws into `params`."""
        return run_tail(self.tail, self.decoder.decode(key, storage), params, key)

    def __str__(self) -> str:
        return f"{self.name}: custom: {title_of(self.decoder.operation)} of {self.field}" + tail_title(self.tail)


View = ImageView | ArrayView | ColumnView | CustomView


def image_sizes(rows: np.ndarray, dtype: type = np.int64) -> np.ndarray:
    """[B, 2]: heights and widths of the images that these rows of a field's metadata are about."""
    return side_by_side(dtype, rows["height"], rows["width"])
