"""What transforms share that are applied or not, with nothing else drawn."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from ffcv.transforms.base import ImageTransform
from ffcv.transforms.validation import check_probability, check_seed


class AppliedParams(NamedTuple):
    applied: np.ndarray  # bool [B]


class Chance(ImageTransform):
    """Applied with probability `p`; a subclass is a frozen dataclass with `p`, `seed`, and fixed arguments."""

    p: float

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AppliedParams:
        return AppliedParams(u[:, 0] < self.p)
