"""Negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_probability, check_seed


class InvertParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class Invert(ImageTransform):
    """Replaces every value v by 255 - v with probability `p` (torchvision's `RandomInvert`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "invert"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> InvertParams:
        return InvertParams(u[:, 0] < self.p)

    def lower(self, params: InvertParams) -> list[Op]:
        return [op(OpCode.solarize, params.applied, 0)]


RandomInvert = Invert
