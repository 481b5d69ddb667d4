"""Boxes of one colour: random erasing and cutout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import (
    check_colour,
    check_count,
    check_range,
    check_seed,
    one_probability,
)


class BoxParams(NamedTuple):
    top: np.ndarray  # int64 [B], pixels of the view; height and width are 0 where not applied
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray


@dataclass(frozen=True)
class RandomErasing(ImageTransform):
    """Paints over a random box with probability `erase_prob` (Zhong et al., 2020).

    Drawn as torchvision's `RandomErasing` draws: ten attempts at an area and an aspect ratio, else nothing is erased.

    Attributes:
        erase_prob: Probability; `p=` is torchvision's name for it.
        scale: Range of the box's share of the view's area, within [0, 1].
        ratio: Range of the box's height / width, drawn evenly on a log scale.
        mean: Its colour, one number or (R, G, B) in 0..255.
    """

    erase_prob: float = 0.5
    scale: Sequence[float] = (0.08, 0.4)
    ratio: Sequence[float] = (0.3, 3)
    mean: float | Sequence[float] = (128, 128, 128)
    seed: int | None = None
    p: InitVar[float | None] = field(default=None, kw_only=True)

    family: ClassVar[str] = "erasing"
    attempts: ClassVar[int] = 10
    draws: ClassVar[int] = 2 * attempts + 3

    def __post_init__(self, p: float | None) -> None:
        object.__setattr__(self, "erase_prob", one_probability("erase_prob", self.erase_prob, 0.5, p))
        object.__setattr__(self, "scale", check_range("scale", self.scale, 0.0, 1.0))
        object.__setattr__(self, "ratio", check_range("ratio", self.ratio, 0.0, math.inf, low_open=True))
        object.__setattr__(self, "mean", check_colour("mean", self.mean))
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> BoxParams:
        view_height, view_width = sizes[:, :1], sizes[:, 1:]
        tries = u[:, 3:].reshape(len(u), self.attempts, 2)
        area = view_height * view_width * (self.scale[0] + (self.scale[1] - self.scale[0]) * tries[..., 0])
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = np.exp(low + (high - low) * tries[..., 1])
        heights, widths = (np.rint(np.sqrt(area * r)).astype(np.int64) for r in (ratio, 1.0 / ratio))
        fits = (heights < view_height) & (widths < view_width)
        first = np.argmax(fits, axis=1)[:, None]
        applied = (u[:, 0] < self.erase_prob) & fits.any(axis=1)
        height, width = (np.where(applied, np.take_along_axis(s, first, 1)[:, 0], 0) for s in (heights, widths))
        top = np.floor(u[:, 1] * (sizes[:, 0] - height + 1)).astype(np.int64)
        left = np.floor(u[:, 2] * (sizes[:, 1] - width + 1)).astype(np.int64)
        return BoxParams(np.where(applied, top, 0), np.where(applied, left, 0), height, width)

    def lower(self, params: BoxParams) -> list[Op]:
        return [op(OpCode.fill_box, *params, *self.mean)]  # type: ignore[misc] - __post_init__ made it a triple


@dataclass(frozen=True)
class Cutout(ImageTransform):
    """Paints over a random square (DeVries and Taylor, 2017), wholly inside the view, as FFCV does.

    Attributes:
        crop_size: The square's side in pixels; at most the view's shorter side.
        fill: Its colour, one number or (R, G, B) in 0..255.
    """

    crop_size: int
    fill: float | Sequence[float] = (0, 0, 0)
    seed: int | None = None

    family: ClassVar[str] = "cutout"
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_count("crop_size", self.crop_size, 1)
        object.__setattr__(self, "fill", check_colour("fill", self.fill))
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> BoxParams:
        if len(sizes) and sizes.min() < self.crop_size:
            raise ValueError(f"crop_size must be at most the view's shorter side {sizes.min()}, got {self.crop_size}")
        corner = np.floor(u * (sizes - self.crop_size + 1)).astype(np.int64)
        side = np.full(len(u), self.crop_size, np.int64)
        return BoxParams(corner[:, 0], corner[:, 1], side, side)

    def lower(self, params: BoxParams) -> list[Op]:
        return [op(OpCode.fill_box, *params, *self.fill)]  # type: ignore[misc] - __post_init__ made it a triple
