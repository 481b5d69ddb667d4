"""Grey pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ffcv._core import OpCode
from ffcv.transforms.base import Op, op
from ffcv.transforms.chance import AppliedParams, Chance
from ffcv.transforms.validation import one_probability


@dataclass(frozen=True)
class Grayscale(Chance):
    """Replaces R, G and B by their ITU-R 601 luma with probability `p` (torchvision's `RandomGrayscale`)."""

    p: float = 0.2
    seed: int | None = None

    family: ClassVar[str] = "grayscale"

    def lower(self, params: AppliedParams) -> list[Op]:
        return [op(OpCode.grayscale, params.applied)]


def RandomGrayscale(gray_prob: float = 0.2, seed: int | None = None, *, p: float | None = None) -> Grayscale:
    """FFCV-SSL's name for `Grayscale`; `p` is torchvision's for `gray_prob`."""
    return Grayscale(one_probability("gray_prob", gray_prob, 0.2, p), seed)
