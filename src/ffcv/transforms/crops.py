"""Decoders of images: which part of the picture becomes the view."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ffcv.transforms.base import INTERPOLATIONS, ImageDecoder
from ffcv.transforms.validation import (
    check_interpolation,
    check_number,
    check_range,
    check_seed,
    check_size,
    is_number,
    numbers_in,
    size_of,
)


class CropParams(NamedTuple):
    """A box in the source image's pixels: int64 [B] each, with the image's size beside it."""

    image_width: np.ndarray
    image_height: np.ndarray
    top: np.ndarray
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray


@dataclass
class RandomResizedCrop(ImageDecoder):
    """A random part of the image, resized.

    Follows torchvision's `RandomResizedCrop` ("Inception crop", Szegedy et al., 2015): ten attempts at an area and an
    aspect ratio, else the largest centred crop with an allowed ratio.

    Attributes:
        output_size: (height, width) in pixels, or one number for both.
        scale: Range of the crop's share of the image's area, within (0, 1].
        ratio: Range of the crop's aspect ratio (width / height), drawn evenly on a log scale.
        seed: See `RandomTransform`.
        second_seed: The crop does not overlap the one that `seed=second_seed` draws, where one of the attempts leaves
            room for that.
        interpolation: See `ImageDecoder`.
        antialias: Accepted for torchvision's sake; must be True, as it always is on PIL images.

    FFCV's own `RandomResizedCrop(scale, ratio, size)`, which works on decoded images, is understood too: by `size=`, or
    by a size in the third place and none in the first. It may stand after `SimpleRGBImageDecoder()` or on a tensor.
    """

    output_size: Any = None  # a pair after __post_init__
    scale: Any = (0.08, 1.0)
    ratio: Any = (0.75, 4 / 3)
    seed: int | None = None
    second_seed: int | None = None
    size: InitVar[int | Sequence[int] | None] = field(default=None, kw_only=True)
    interpolation: str = field(default="bilinear", kw_only=True)
    antialias: InitVar[bool | None] = field(default=True, kw_only=True)

    family: ClassVar[str] = "crop"
    attempts: ClassVar[int] = 10
    draws: ClassVar[int] = 2 * attempts + 2

    def __post_init__(self, size: int | Sequence[int] | None, antialias: bool | None) -> None:
        if size is not None:
            if self.output_size is not None:
                raise ValueError(f"size is FFCV's name for output_size; both are given: {size!r}, {self.output_size!r}")
            self.output_size = size
        elif _is_ffcvs_order(self.output_size, self.ratio):
            self.output_size, self.scale, self.ratio = self.ratio, self.output_size, self.scale
        if antialias not in (True, None):
            raise ValueError(f"antialias must be True, as on PIL images in torchvision, got {antialias!r}")
        self.output_size = check_size("output_size", self.output_size)
        self.scale = check_range("scale", self.scale, 0.0, 1.0, low_open=True)
        self.ratio = check_range("ratio", self.ratio, 0.0, math.inf, low_open=True)
        check_seed("seed", self.seed)
        check_seed("second_seed", self.second_seed)
        self.further_seeds = () if self.second_seed is None else (self.second_seed,)
        self.interpolation = check_interpolation(self.interpolation, INTERPOLATIONS)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        crop, heights, widths, fits = self._draw(u[:, : self.draws], sizes)
        if self.second_seed is None:
            return crop
        other = self._draw(u[:, self.draws :], sizes)[0]
        return _apart(crop, other, heights.astype(np.int64), widths.astype(np.int64), fits, u[:, self.draws - 2])

    def _draw(self, u: np.ndarray, sizes: np.ndarray) -> tuple[CropParams, np.ndarray, np.ndarray, np.ndarray]:
        """The crop, and of all attempts [B, attempts] the heights, the widths, and whether they fit."""
        full_height, full_width = sizes[:, 0], sizes[:, 1]
        of_area, of_ratio = u[:, :-2:2], u[:, 1:-2:2]
        area = (full_height * full_width)[:, None] * (self.scale[0] + (self.scale[1] - self.scale[0]) * of_area)
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = np.exp(low + (high - low) * of_ratio)
        widths = np.rint(np.sqrt(area * ratio))
        heights = np.rint(np.sqrt(area / ratio))
        most = sizes.astype(np.float64)
        fits = (np.minimum(heights, widths) > 0) & (widths <= most[:, 1:]) & (heights <= most[:, :1])

        rows, first = np.arange(len(u)), fits.argmax(axis=1)
        height, width = heights[rows, first].astype(np.int64), widths[rows, first].astype(np.int64)
        top = np.floor(u[:, -2] * (full_height - height + 1)).astype(np.int64)
        left = np.floor(u[:, -1] * (full_width - width + 1)).astype(np.int64)

        none = ~fits[rows, first]
        if none.any():
            height[none], width[none] = self._largest(full_height[none], full_width[none])
            top[none] = (full_height[none] - height[none]) // 2
            left[none] = (full_width[none] - width[none]) // 2
        return CropParams(full_width, full_height, top, left, height, width), heights, widths, fits

    def _largest(self, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest crops whose ratio is allowed."""
        tall, wide = widths / heights < self.ratio[0], widths / heights > self.ratio[1]
        height = np.where(tall, np.rint(widths / self.ratio[0]), heights).astype(np.int64)
        width = np.where(wide, np.rint(heights * self.ratio[1]), widths).astype(np.int64)
        return np.clip(height, 1, heights), np.clip(width, 1, widths)


def _is_ffcvs_order(first: Any, third: Any) -> bool:
    """Whether the arguments are (scale, ratio, size): a range of shares in the first place, a size in the third."""
    is_scale = size_of(first) is None and len(numbers_in(first)) == 2 and all(0 < share <= 1 for share in first)
    return size_of(third) is not None and (is_number(third) or is_scale)


def _apart(
    crop: CropParams, other: CropParams, heights: np.ndarray, widths: np.ndarray, fits: np.ndarray, u: np.ndarray
) -> CropParams:
    """The first attempt that leaves room beside `other`, at a place drawn evenly from all free ones; else `crop`."""
    rows = (crop.image_height[:, None] - heights + 1).clip(min=0)  # places for the top of each attempt
    columns = (crop.image_width[:, None] - widths + 1).clip(min=0)
    first_row = (other.top[:, None] - heights + 1).clip(0, rows)  # tops from here to last_row touch the other's rows
    last_row = (other.top + other.height)[:, None].clip(0, rows)
    first_column = (other.left[:, None] - widths + 1).clip(0, columns)
    last_column = (other.left + other.width)[:, None].clip(0, columns)
    beside = columns - (last_column - first_column)  # free columns in each of the touching rows
    outside = (rows - (last_row - first_row)) * columns
    free = np.where(fits, outside + (last_row - first_row) * beside, 0)

    chosen = np.argmax(free > 0, axis=1)[:, None]

    def of_chosen(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, chosen, axis=1)[:, 0]

    place = np.floor(u * of_chosen(free)).astype(np.int64)
    width, top_row, end_row = of_chosen(columns).clip(min=1), of_chosen(first_row), of_chosen(last_row)
    in_touching = place - of_chosen(outside)
    inner = of_chosen(beside).clip(min=1)
    row, column = place // width, place % width
    top = np.where(row < top_row, row, row + end_row - top_row)
    inner_column = in_touching % inner
    skipped = inner_column + of_chosen(last_column - first_column) * (inner_column >= of_chosen(first_column))
    touching = in_touching >= 0
    top, left = np.where(touching, top_row + in_touching // inner, top), np.where(touching, skipped, column)

    found = (free > 0).any(axis=1)
    boxes = (top, left, of_chosen(heights), of_chosen(widths))
    own = (crop.top, crop.left, crop.height, crop.width)
    return CropParams(
        crop.image_width, crop.image_height, *(np.where(found, new, old) for new, old in zip(boxes, own, strict=True))
    )


RandomResizedCropRGBImageDecoder = RandomResizedCrop
"""FFCV's name; a class, from which users derive their own."""


@dataclass
class CenterCrop(ImageDecoder):
    """The centred square of `ratio` times the shorter side, resized.

    Attributes:
        output_size: (height, width) in pixels, or one number for both.
        ratio: Side of the square over the image's shorter side, in (0, 1]; 224/256 is the usual evaluation.
        interpolation: See `ImageDecoder`.
    """

    output_size: Any  # a pair after __post_init__
    ratio: float
    seed: int | None = field(default=None, init=False, repr=False)  # nothing is drawn
    interpolation: str = field(default="bilinear", kw_only=True)

    family: ClassVar[str] = "center_crop"

    def __post_init__(self) -> None:
        self.output_size = check_size("output_size", self.output_size)
        check_number("ratio", self.ratio, 0.0, 1.0, low_open=True)
        self.interpolation = check_interpolation(self.interpolation, INTERPOLATIONS)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        height, width = sizes[:, 0], sizes[:, 1]
        side = np.maximum(1, (self.ratio * np.minimum(height, width)).astype(np.int64))
        return CropParams(width, height, (height - side) // 2, (width - side) // 2, side, side.copy())


CenterCropRGBImageDecoder = CenterCrop
"""FFCV's name."""


class SimpleRGBImageDecoder(ImageDecoder):
    """The whole image as it is; for files in which all images have one size."""

    seed: int | None = None
    family: ClassVar[str] = "whole_image"

    def bound(self, heights: np.ndarray, widths: np.ndarray) -> SimpleRGBImageDecoder:
        low, high = (int(heights.min()), int(widths.min())), (int(heights.max()), int(widths.max()))
        if low != high:
            raise TypeError(  # as in the original, whose users catch it
                f"SimpleRGBImageDecoder needs images of one size, but heights are {low[0]} to {high[0]} and widths "
                f"{low[1]} to {high[1]} pixels; use RandomResizedCrop or CenterCrop"
            )
        own = copy.copy(self)
        own.output_size = low
        return own

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        height, width = sizes[:, 0], sizes[:, 1]
        return CropParams(width, height, np.zeros_like(height), np.zeros_like(width), height, width)
