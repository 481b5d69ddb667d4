"""Full contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_probability, check_seed


class AutocontrastParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class Autocontrast(ImageTransform):
    """Stretches each channel's values to 0..255 with probability `p` (torchvision's `RandomAutocontrast`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "autocontrast"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AutocontrastParams:
        return AutocontrastParams(u[:, 0] < self.p)

    def lower(self, params: AutocontrastParams) -> list[Op]:
        return [op(OpCode.autocontrast, params.applied)]


RandomAutocontrast = Autocontrast
