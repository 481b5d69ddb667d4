"""Decoders of images: which part of the picture becomes the view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv.transforms.base import INTERPOLATIONS, ImageDecoder
from ffcv.transforms.validation import check_choice, check_range, check_seed, check_size


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
        interpolation: See `ImageDecoder`.
    """

    output_size: tuple[int, int]
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (0.75, 4 / 3)
    seed: int | None = None
    interpolation: str = field(default="bilinear", kw_only=True)

    family: ClassVar[str] = "crop"
    attempts: ClassVar[int] = 10
    draws: ClassVar[int] = 2 * attempts + 2

    def __post_init__(self) -> None:
        self.output_size = check_size("output_size", self.output_size)
        self.scale = check_range("scale", self.scale, 0.0, 1.0, low_open=True)
        self.ratio = check_range("ratio", self.ratio, 0.0, math.inf, low_open=True)
        check_seed("seed", self.seed)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        full_height, full_width = sizes[:, 0], sizes[:, 1]
        tries = u[:, :-2].reshape(len(u), self.attempts, 2)
        area = (full_height * full_width)[:, None] * (self.scale[0] + (self.scale[1] - self.scale[0]) * tries[..., 0])
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = np.exp(low + (high - low) * tries[..., 1])
        widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = (widths > 0) & (widths <= full_width[:, None]) & (heights > 0) & (heights <= full_height[:, None])

        first = np.argmax(fits, axis=1)[:, None]
        height = np.take_along_axis(heights, first, axis=1)[:, 0]
        width = np.take_along_axis(widths, first, axis=1)[:, 0]
        top = np.floor(u[:, -2] * (full_height - height + 1)).astype(np.int64)
        left = np.floor(u[:, -1] * (full_width - width + 1)).astype(np.int64)

        none = ~fits.any(axis=1)
        if none.any():
            height[none], width[none] = self._largest(full_height[none], full_width[none])
            top[none] = (full_height[none] - height[none]) // 2
            left[none] = (full_width[none] - width[none]) // 2
        return CropParams(full_width, full_height, top, left, height, width)

    def _largest(self, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest crops whose ratio is allowed."""
        tall, wide = widths / heights < self.ratio[0], widths / heights > self.ratio[1]
        height = np.where(tall, np.rint(widths / self.ratio[0]), heights).astype(np.int64)
        width = np.where(wide, np.rint(heights * self.ratio[1]), widths).astype(np.int64)
        return np.clip(height, 1, heights), np.clip(width, 1, widths)


def RandomResizedCropRGBImageDecoder(
    output_size: tuple[int, int],
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (0.75, 4 / 3),
) -> RandomResizedCrop:
    """FFCV's name for `RandomResizedCrop`."""
    return RandomResizedCrop(output_size, scale, ratio)


@dataclass
class CenterCrop(ImageDecoder):
    """The centred square of `ratio` times the shorter side, resized.

    Attributes:
        output_size: (height, width) in pixels, or one number for both.
        ratio: Side of the square over the image's shorter side, in (0, 1]; 224/256 is the usual evaluation.
        interpolation: See `ImageDecoder`.
    """

    output_size: tuple[int, int]
    ratio: float
    seed: int | None = field(default=None, init=False, repr=False)  # nothing is drawn
    interpolation: str = field(default="bilinear", kw_only=True)

    def __post_init__(self) -> None:
        self.output_size = check_size("output_size", self.output_size)
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio!r}")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        side = np.maximum(1, (self.ratio * sizes.min(axis=1)).astype(np.int64))
        height, width = sizes[:, 0], sizes[:, 1]
        return CropParams(width, height, (height - side) // 2, (width - side) // 2, side, side.copy())


def CenterCropRGBImageDecoder(output_size: tuple[int, int], ratio: float) -> CenterCrop:
    """FFCV's name for `CenterCrop`."""
    return CenterCrop(output_size, ratio)


class SimpleRGBImageDecoder(ImageDecoder):
    """The whole image as it is; for files in which all images have one size."""

    seed: int | None = None

    def bind(self, heights: np.ndarray, widths: np.ndarray) -> None:
        low, high = (int(heights.min()), int(widths.min())), (int(heights.max()), int(widths.max()))
        if low != high:
            raise ValueError(
                f"SimpleRGBImageDecoder needs images of one size, but heights are {low[0]} to {high[0]} and widths "
                f"{low[1]} to {high[1]} pixels; use RandomResizedCrop or CenterCrop"
            )
        self.output_size = low

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        height, width = sizes[:, 0], sizes[:, 1]
        return CropParams(width, height, np.zeros_like(height), np.zeros_like(width), height, width)
