"""Full contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance


@dataclass(frozen=True)
class Autocontrast(Chance):
    """Stretches each channel's values to 0..255 with probability `p` (torchvision's `RandomAutocontrast`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "autocontrast"

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.autocontrast, params.applied)]


RandomAutocontrast = Autocontrast
