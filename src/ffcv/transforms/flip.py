"""Mirroring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance
from ffcv.transforms.validation import one_probability


@dataclass(frozen=True)
class HorizontalFlip(Chance):
    """Mirrors left and right with probability `p` (torchvision's `RandomHorizontalFlip`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "horizontal_flip"

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.flip_horizontal, params.applied)]


def RandomHorizontalFlip(flip_prob: float = 0.5, seed: int | None = None, *, p: float | None = None) -> HorizontalFlip:
    """FFCV's name for `HorizontalFlip`; `p` is torchvision's for `flip_prob`."""
    return HorizontalFlip(one_probability("flip_prob", flip_prob, 0.5, p), seed)


@dataclass(frozen=True)
class VerticalFlip(Chance):
    """Mirrors top and bottom with probability `p` (torchvision's `RandomVerticalFlip`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "vertical_flip"

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.flip_vertical, params.applied)]


RandomVerticalFlip = VerticalFlip
