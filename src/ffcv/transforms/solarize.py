"""Solarisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance
from ffcv.transforms.validation import check_number, check_probability


@dataclass(frozen=True)
class Solarize(Chance):
    """Inverts all values at or above `threshold` with probability `p` (torchvision's `RandomSolarize`).

    Attributes:
        threshold: Within 0..256; 256 inverts nothing.
    """

    threshold: float = 128
    p: float = 0.5
    seed: int | None = None

    family: ClassVar[str] = "solarize"

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0, 256)
        super().__post_init__()

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.solarize, params.applied, self.threshold)]


RandomSolarize = Solarize


def RandomSolarization(solarization_prob: float = 0.5, threshold: float = 128, seed: int | None = None) -> Solarize:
    """FFCV-SSL's name and argument order for `Solarize`."""
    return Solarize(threshold, check_probability("solarization_prob", solarization_prob), seed)
