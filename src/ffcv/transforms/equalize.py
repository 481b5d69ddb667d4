"""Histogram equalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_probability, check_seed


class EqualizeParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class Equalize(ImageTransform):
    """Equalises each channel's histogram with probability `p` (torchvision's `RandomEqualize`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "equalize"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> EqualizeParams:
        return EqualizeParams(u[:, 0] < self.p)

    def lower(self, params: EqualizeParams) -> list[Op]:
        return [op(OpCode.equalize, params.applied)]


RandomEqualize = Equalize
