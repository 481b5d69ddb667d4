"""Noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_number, check_probability, check_seed

_KEYS = 1 << 24  # whole numbers that float32 holds


class NoiseParams(NamedTuple):
    applied: np.ndarray  # bool [B]
    key_a: np.ndarray  # int64 [B] in 0..2^24-1; with key_b it determines the noise
    key_b: np.ndarray


@dataclass(frozen=True)
class GaussianNoise(ImageTransform):
    """Adds normal noise to every value, with probability `p` (torchvision's `GaussianNoise`, clipped and rounded).

    Attributes:
        mean: Of the noise, in [-1, 1]: 1 is the full range of 255, as for torchvision's float images.
        sigma: Standard deviation on the same scale, in [0, 1].
        clip: Accepted for torchvision's sake; uint8 images are always clipped.
    """

    mean: float = 0.0
    sigma: float = 0.1
    clip: bool = True
    p: float = 1.0
    seed: int | None = None

    family: ClassVar[str] = "noise"
    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", check_number("mean", self.mean, -1.0, 1.0))
        object.__setattr__(self, "sigma", check_number("sigma", self.sigma, 0.0, 1.0))
        if self.clip is not True:
            raise ValueError(f"clip must be True, uint8 images hold 0..255 only, got {self.clip!r}")
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> NoiseParams:
        keys = np.floor(u[:, 1:] * _KEYS).astype(np.int64)
        return NoiseParams(u[:, 0] < self.p, keys[:, 0], keys[:, 1])

    def lower(self, params: NoiseParams) -> list[Op]:
        mean, sigma = 255.0 * self.mean * params.applied, 255.0 * self.sigma * params.applied
        return [op(OpCode.noise, mean, sigma, params.key_a, params.key_b)]
