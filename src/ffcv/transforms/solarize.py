"""Solarisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_number, check_probability, check_seed


class SolarizeParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class Solarize(ImageTransform):
    """Inverts all values at or above `threshold` with probability `p` (torchvision's `RandomSolarize`).

    Attributes:
        threshold: Within 0..256; 256 inverts nothing.
    """

    threshold: float = 128
    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "solarize"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0, 256)
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> SolarizeParams:
        return SolarizeParams(u[:, 0] < self.p)

    def lower(self, params: SolarizeParams) -> list[Op]:
        return [op(OpCode.solarize, params.applied, self.threshold)]


def RandomSolarization(solarization_prob: float = 0.5, threshold: float = 128, seed: int | None = None) -> Solarize:
    """FFCV-SSL's name and argument order for `Solarize`."""
    return Solarize(threshold, solarization_prob, seed)
