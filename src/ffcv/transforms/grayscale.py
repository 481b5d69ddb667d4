"""Grey pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_probability, check_seed


class GrayscaleParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class Grayscale(ImageTransform):
    """Replaces R, G and B by their ITU-R 601 luma with probability `p` (torchvision's `RandomGrayscale`)."""

    p: float = 0.2
    seed: int | None = None

    family: ClassVar[str] = "grayscale"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> GrayscaleParams:
        return GrayscaleParams(u[:, 0] < self.p)

    def lower(self, params: GrayscaleParams) -> list[Op]:
        return [op(OpCode.grayscale, params.applied)]


def RandomGrayscale(gray_prob: float = 0.2, seed: int | None = None) -> Grayscale:
    """FFCV-SSL's name for `Grayscale`."""
    return Grayscale(gray_prob, seed)
