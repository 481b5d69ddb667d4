"""Mirroring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, op
from ffcv.transforms.validation import check_probability, check_seed


class FlipParams(NamedTuple):
    applied: np.ndarray  # bool [B]


@dataclass(frozen=True)
class HorizontalFlip(ImageTransform):
    """Mirrors left and right with probability `p` (torchvision's `RandomHorizontalFlip`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "horizontal_flip"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> FlipParams:
        return FlipParams(u[:, 0] < self.p)

    def lower(self, params: FlipParams) -> list[Op]:
        return [op(OpCode.flip_horizontal, params.applied)]


def RandomHorizontalFlip(flip_prob: float = 0.5, seed: int | None = None) -> HorizontalFlip:
    """FFCV's name for `HorizontalFlip`."""
    return HorizontalFlip(flip_prob, seed)


@dataclass(frozen=True)
class VerticalFlip(ImageTransform):
    """Mirrors top and bottom with probability `p` (torchvision's `RandomVerticalFlip`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "vertical_flip"
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> FlipParams:
        return FlipParams(u[:, 0] < self.p)

    def lower(self, params: FlipParams) -> list[Op]:
        return [op(OpCode.flip_vertical, params.applied)]


RandomVerticalFlip = VerticalFlip
