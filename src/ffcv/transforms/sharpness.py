"""Sharpness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance
from ffcv.transforms.validation import check_number


@dataclass(frozen=True)
class AdjustSharpness(Chance):
    """Sharpens (factor > 1) or smooths (factor < 1) with probability `p` (torchvision's `RandomAdjustSharpness`)."""

    sharpness_factor: float
    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "sharpness"

    def __post_init__(self) -> None:
        check_number("sharpness_factor", self.sharpness_factor, 0.0)
        super().__post_init__()

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.sharpness, np.where(params.applied, self.sharpness_factor, 1.0))]


RandomAdjustSharpness = AdjustSharpness
