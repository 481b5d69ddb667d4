"""Brightness, contrast, saturation and hue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_number, check_probability, check_range, check_seed

Amount = float | Sequence[float]


class ColorJitterParams(NamedTuple):
    brightness: np.ndarray  # float [B], factor; 1 where not applied
    contrast: np.ndarray  # float [B], factor; 1 where not applied
    saturation: np.ndarray  # float [B], factor; 1 where not applied
    hue: np.ndarray  # float [B], shift in turns; 0 where not applied
    order: np.ndarray  # int [B], index of the permutation of the four in lexicographic order


def _factor_range(name: str, amount: Amount) -> tuple[float, float]:
    if isinstance(amount, Real):
        amount = check_number(name, amount, 0.0)
        return max(0.0, 1.0 - amount), 1.0 + amount
    return check_range(name, amount, 0.0, math.inf)


def _hue_range(amount: Amount) -> tuple[float, float]:
    if isinstance(amount, Real):
        amount = check_number("hue", amount, 0.0, 0.5)
        return -amount, amount
    return check_range("hue", amount, -0.5, 0.5)


@dataclass(frozen=True)
class ColorJitter(ImageTransform):
    """Changes brightness, contrast, saturation and hue, in random order, with probability `p`.

    torchvision's `ColorJitter`, with the arithmetic of its PIL path: each step rounds and clamps to 0..255.

    Attributes:
        brightness: A number b for factors in [max(0, 1 - b), 1 + b], or the pair (min, max) itself; >= 0.
        contrast: Likewise.
        saturation: Likewise.
        hue: A number h for shifts in [-h, h] turns, or a pair; within [-0.5, 0.5].
    """

    brightness: Amount = 0.0
    contrast: Amount = 0.0
    saturation: Amount = 0.0
    hue: Amount = 0.0
    p: float = 1.0
    seed: int | None = None

    family: ClassVar[str] = "color_jitter"
    draws: ClassVar[int] = 6

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            object.__setattr__(self, name, _factor_range(name, getattr(self, name)))
        object.__setattr__(self, "hue", _hue_range(self.hue))
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    @cached_property
    def _ranges(self) -> np.ndarray:
        """float64 [2, 4]: the least and the most of the factors, and of hue."""
        return np.array([self.brightness, self.contrast, self.saturation, self.hue]).T

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> ColorJitterParams:
        low, high = self._ranges
        values = low + (high - low) * u[:, 1:5]
        values[u[:, 0] >= self.p] = (1.0, 1.0, 1.0, 0.0)
        return ColorJitterParams(*values.T, order=np.floor(u[:, 5] * 24).astype(np.int64))

    def lower(self, params: ColorJitterParams) -> list[Op]:
        return [op(OpCode.color_jitter, *params)]

    def label(self, params: ColorJitterParams) -> np.ndarray:
        return np.stack(params[:4], axis=1)  # as the original: the factors, without their order


def RandomColorJitter(
    jitter_prob: float = 0.5,
    brightness: Amount = 0.8,
    contrast: Amount = 0.4,
    saturation: Amount = 0.4,
    hue: Amount = 0.2,
    seed: int | None = None,
) -> ColorJitter:
    """FFCV-SSL's name and argument order for `ColorJitter`."""
    return ColorJitter(brightness, contrast, saturation, hue, check_probability("jitter_prob", jitter_prob), seed)


def RandomBrightness(magnitude: float, p: float = 0.5) -> ColorJitter:
    """FFCV's name: brightness alone, factors in [max(0, 1 - magnitude), 1 + magnitude]."""
    return ColorJitter(brightness=_factor_range("magnitude", magnitude), p=p)


def RandomContrast(magnitude: float, p: float = 0.5) -> ColorJitter:
    """FFCV's name: contrast alone, factors in [max(0, 1 - magnitude), 1 + magnitude]."""
    return ColorJitter(contrast=_factor_range("magnitude", magnitude), p=p)


def RandomSaturation(magnitude: float, p: float = 0.5) -> ColorJitter:
    """FFCV's name: saturation alone, factors in [max(0, 1 - magnitude), 1 + magnitude]."""
    return ColorJitter(saturation=_factor_range("magnitude", magnitude), p=p)
