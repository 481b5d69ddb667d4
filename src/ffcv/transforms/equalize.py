"""Histogram equalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance


@dataclass(frozen=True)
class Equalize(Chance):
    """Equalises each channel's histogram with probability `p` (torchvision's `RandomEqualize`)."""

    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "equalize"

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.equalize, params.applied)]


RandomEqualize = Equalize
