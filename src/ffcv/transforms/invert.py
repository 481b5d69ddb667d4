"""Negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance


@dataclass(frozen=True)
class Invert(Chance):
    """Replaces every value v by 255 - v with probability `p` (torchvision's `RandomInvert`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "invert"

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.solarize, params.applied, 0)]


RandomInvert = Invert
