"""Gaussian blur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_count, check_probability, check_range, check_seed

WIDEST_KERNEL = 1023


class BlurParams(NamedTuple):
    sigma: np.ndarray  # float [B], pixels; 0 where not applied


@dataclass(frozen=True)
class Blur(ImageTransform):
    """Gaussian blur with reflected borders, with probability `p` (torchvision's `GaussianBlur`).

    Attributes:
        kernel_size: Odd number of taps a side, in pixels, at most 1023: the core's weights have 14 bits.
        sigma: Standard deviation in pixels, or the range (min, max) to draw it from; > 0.
    """

    kernel_size: int
    sigma: float | Sequence[float] = (0.1, 2.0)
    p: float = 1.0
    seed: int | None = None

    family: ClassVar[str] = "gaussian_blur"
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if check_count("kernel_size", self.kernel_size, 1, WIDEST_KERNEL) % 2 == 0:
            raise ValueError(f"kernel_size must be an odd number of pixels, got {self.kernel_size!r}")
        pair = (self.sigma, self.sigma) if isinstance(self.sigma, Real) else self.sigma
        object.__setattr__(self, "sigma", check_range("sigma", pair, 0.0, math.inf, low_open=True))
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> BlurParams:
        low, high = self.sigma  # type: ignore[misc] - __post_init__ made it a pair
        return BlurParams(np.where(u[:, 0] < self.p, low + (high - low) * u[:, 1], 0.0))

    def lower(self, params: BlurParams) -> list[Op]:
        return [op(OpCode.gaussian_blur, params.sigma, self.kernel_size)]


def GaussianBlur(
    blur_prob: float,
    kernel_size: int = 5,
    sigma: float | Sequence[float] = (0.1, 2.0),
    seed: int | None = None,
) -> Blur:
    """FFCV-SSL's name and argument order for `Blur`."""
    return Blur(kernel_size, sigma, check_probability("blur_prob", blur_prob), seed)
