"""Crops at a corner, and whole pictures with padding."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ffcv.transforms.base import INTERPOLATIONS, ImageDecoder
from ffcv.transforms.crops import CropParams
from ffcv.transforms.validation import check_choice, check_interpolation, check_number, check_size

_CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


@dataclass
class CornerCrop(ImageDecoder):
    """The square of `ratio` times the shorter side in one corner of the image, resized.

    Attributes:
        output_size: (height, width) in pixels, or one number for both.
        ratio: Side of the square over the image's shorter side, in (0, 1].
        corner: 'top_left', 'top_right', 'bottom_left' or 'bottom_right'.
        interpolation: See `ImageDecoder`.
    """

    output_size: Any  # a pair after __post_init__
    ratio: float
    corner: str = "top_left"
    seed: int | None = field(default=None, init=False, repr=False)  # nothing is drawn
    interpolation: str = field(default="bilinear", kw_only=True)

    family: ClassVar[str] = "corner_crop"

    def __post_init__(self) -> None:
        self.output_size = check_size("output_size", self.output_size)
        check_number("ratio", self.ratio, 0.0, 1.0, low_open=True)
        check_choice("corner", self.corner, _CORNERS)
        self.interpolation = check_interpolation(self.interpolation, INTERPOLATIONS)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        height, width = sizes[:, 0], sizes[:, 1]
        side = np.maximum(1, (self.ratio * sizes.min(axis=1)).astype(np.int64))
        top = height - side if self.corner.startswith("bottom") else np.zeros_like(side)
        left = width - side if self.corner.endswith("right") else np.zeros_like(side)
        return CropParams(width, height, top, left, side, side.copy())


class PadRGBImageDecoder(ImageDecoder):
    """Whole images at the top left of views as large as the file's largest height and width, with zeros around."""

    seed: int | None = None
    family: ClassVar[str] = "pad"
    pad: ClassVar[bool] = True

    def bound(self, heights: np.ndarray, widths: np.ndarray) -> PadRGBImageDecoder:
        own = copy.copy(self)
        own.output_size = int(heights.max()), int(widths.max())
        return own

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> CropParams:
        height, width = sizes[:, 0], sizes[:, 1]
        return CropParams(width, height, np.zeros_like(height), np.zeros_like(width), height, width)
