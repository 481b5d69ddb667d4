"""Posterisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_count, check_probability, check_seed


class PosterizeParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class Posterize(ImageTransform):
    """Keeps the upper `bits` (0..8) of every value with probability `p` (torchvision's `RandomPosterize`)."""

    bits: int
    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "posterize"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count("bits", self.bits, 0, 8)
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> PosterizeParams:
        return PosterizeParams(u[:, 0] < self.p)

    def lower(self, params: PosterizeParams) -> list[Op]:
        return [op(OpCode.posterize, np.where(params.applied, self.bits, 8))]


RandomPosterize = Posterize
