"""Sharpness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_number, check_probability, check_seed


class AdjustSharpnessParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class AdjustSharpness(ImageTransform):
    """Sharpens (factor > 1) or smooths (factor < 1) with probability `p` (torchvision's `RandomAdjustSharpness`)."""

    sharpness_factor: float
    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "sharpness"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("sharpness_factor", self.sharpness_factor, 0.0)
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AdjustSharpnessParams:
        return AdjustSharpnessParams(u[:, 0] < self.p)

    def lower(self, params: AdjustSharpnessParams) -> list[Op]:
        return [op(OpCode.sharpness, np.where(params.applied, self.sharpness_factor, 1.0))]


RandomAdjustSharpness = AdjustSharpness
