"""Posterisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance
from ffcv.transforms.validation import check_count


@dataclass(frozen=True)
class Posterize(Chance):
    """Keeps the upper `bits` (0..8) of every value with probability `p` (torchvision's `RandomPosterize`)."""

    bits: int
    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "posterize"

    def __post_init__(self) -> None:
        check_count("bits", self.bits, 0, 8)
        super().__post_init__()

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.posterize, np.where(params.applied, self.bits, 8))]


RandomPosterize = Posterize
