"""RandAugment (Cubuk et al., 2020) and TrivialAugment (Müller and Hutter, 2021), with torchvision's spaces.

Parameters are which operation and how strong. All samples' choices of one round become a handful of the core's
operations, in which each sample has one row that is not the identity.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from ffcv._core import OpCode
from ffcv.transforms.affine import AFFINE_INTERPOLATIONS, affine_op, inverse_matrices, rotation_matrices
from ffcv.transforms.base import ImageTransform, Op, only, op
from ffcv.transforms.validation import MOST_DRAWS, check_colour, check_count, check_interpolation, check_seed

OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
_INDEX = {name: i for i, name in enumerate(OPERATIONS)}
_SIGNED = np.array([1 <= i <= 9 for i in range(len(OPERATIONS))])


class AugmentParams(NamedTuple):
    operation: np.ndarray  # int64 [B, rounds], index into OPERATIONS
    magnitude: np.ndarray  # float [B, rounds], in torchvision's units: its `_apply_image_or_video_transform`
    width: np.ndarray  # int64 [B], of the view in pixels
    height: np.ndarray


@dataclass(frozen=True)
class _AutoAugment(ImageTransform):
    """How a choice of operations and magnitudes becomes pixels."""

    def lower(self, params: AugmentParams) -> list[Op]:
        fill = check_colour("fill", getattr(self, "fill", None) or 0)
        interpolation = getattr(self, "interpolation", "nearest")
        ops: list[Op] = []
        for turn in range(params.operation.shape[1]):
            chosen, magnitude = params.operation[:, turn], params.magnitude[:, turn]
            ops += _geometry(chosen, magnitude, params.width, params.height, interpolation, fill)
            ops += _tones(chosen, magnitude)
        return ops

    def label(self, params: AugmentParams) -> np.ndarray:
        return np.concatenate([params.operation, params.magnitude], axis=1)

    def _choose(
        self, u: np.ndarray, bins: np.ndarray, table: np.ndarray, sizes: np.ndarray, share: float | None
    ) -> AugmentParams:
        """Operations and signs from `u`, float64 [B, rounds, 2]; magnitudes from `table`, [operations, bins]."""
        operation = np.floor(u[..., 0] * len(OPERATIONS)).astype(np.int64)
        magnitude = table[operation, bins]
        if share is not None:  # of the side instead of pixels
            for name, axis in (("TranslateX", 1), ("TranslateY", 0)):
                for side in np.unique(sizes[:, axis]):
                    rows = (operation == _INDEX[name]) & (sizes[:, axis] == side)[:, None]
                    magnitude = np.where(rows, _steps(0.0, share * side, table.shape[1])[bins], magnitude)
        magnitude = np.where(_SIGNED[operation] & (u[..., 1] <= 0.5), -magnitude, magnitude)
        return AugmentParams(operation, magnitude, sizes[:, 1], sizes[:, 0])


def _steps(start: float, end: float, bins: int) -> np.ndarray:
    """float64 [bins], with the float32 values of torch's linspace: shifts truncate to pixels, so bits matter."""
    return torch.linspace(start, end, bins).double().numpy()


@functools.cache
def _space(bins: int, shear: float, translate: float, rotate: float, tone: float, posterize: float) -> np.ndarray:
    """float64 [operations, bins]: torchvision's magnitudes."""
    ends = [0.0, shear, shear, translate, translate, rotate, tone, tone, tone, tone]
    table = np.zeros((len(OPERATIONS), bins))
    table[:10] = [_steps(0.0, end, bins) for end in ends]
    table[_INDEX["Posterize"]] = (8 - torch.arange(bins) / ((bins - 1) / posterize)).round().numpy()
    table[_INDEX["Solarize"]] = _steps(1.0, 0.0, bins)
    return table


def _geometry(
    chosen: np.ndarray,
    magnitude: np.ndarray,
    width: np.ndarray,
    height: np.ndarray,
    interpolation: str,
    fill: tuple[int, int, int],
) -> list[Op]:
    def where(name: str, values: np.ndarray) -> np.ndarray:
        return np.where(chosen == _INDEX[name], values, 0.0)

    rows = (chosen >= _INDEX["ShearX"]) & (chosen <= _INDEX["Rotate"])
    if not rows.any():
        return []
    slope = np.degrees(np.arctan(np.where(chosen <= _INDEX["ShearY"], magnitude, 0.0)))
    shear = (where("ShearX", slope), where("ShearY", slope))
    shift = (where("TranslateX", np.trunc(magnitude)), where("TranslateY", np.trunc(magnitude)))
    none, one = np.zeros(len(chosen)), np.ones(len(chosen))
    moved = inverse_matrices((none, none), none, shift, one, shear)
    turned = rotation_matrices((width * 0.5, height * 0.5), where("Rotate", magnitude))
    matrices = np.where((chosen == _INDEX["Rotate"])[:, None], turned, moved)
    return only(rows, [affine_op(matrices, interpolation, fill)])


def _tones(chosen: np.ndarray, magnitude: np.ndarray) -> list[Op]:
    def where(name: str, values: np.ndarray, otherwise: float) -> np.ndarray:
        return np.where(chosen == _INDEX[name], values, otherwise)

    factors = [where(name, 1.0 + magnitude, 1.0) for name in ("Brightness", "Contrast", "Color")]
    candidates = [
        (("Brightness", "Contrast", "Color"), op(OpCode.color_jitter, *factors, 0.0, 0.0)),
        (("Sharpness",), op(OpCode.sharpness, where("Sharpness", 1.0 + magnitude, 1.0))),
        (("Posterize",), op(OpCode.posterize, where("Posterize", magnitude, 8.0))),
        (("Solarize",), op(OpCode.solarize, chosen == _INDEX["Solarize"], np.ceil(255.0 * magnitude))),
        (("AutoContrast",), op(OpCode.autocontrast, chosen == _INDEX["AutoContrast"])),
        (("Equalize",), op(OpCode.equalize, chosen == _INDEX["Equalize"])),
    ]
    return [one for names, one in candidates if np.isin(chosen, [_INDEX[name] for name in names]).any()]


@dataclass(frozen=True)
class RandAugment(_AutoAugment):
    """`num_ops` random operations of one strength, one after another (torchvision's `RandAugment`).

    Attributes:
        num_ops: Rounds, >= 1.
        magnitude: Strength, an index in 0..num_magnitude_bins-1.
        num_magnitude_bins: Steps of the strengths, >= 2.
        interpolation: 'nearest' or 'bilinear'.
        fill: Colour outside the picture, one number or (R, G, B) in 0..255; None for black.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: float | Sequence[float] | None = None
    seed: int | None = None

    family: ClassVar[str] = "rand_augment"

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_ops", check_count("num_ops", self.num_ops, 1, MOST_DRAWS // 2))
        check_count("num_magnitude_bins", self.num_magnitude_bins, 2)
        check_count("magnitude", self.magnitude, 0, self.num_magnitude_bins - 1)
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation, AFFINE_INTERPOLATIONS))
        object.__setattr__(self, "fill", check_colour("fill", 0 if self.fill is None else self.fill))
        check_seed("seed", self.seed)

    @property
    def draws(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 2 * self.num_ops

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AugmentParams:
        table = _space(self.num_magnitude_bins, 0.3, 1.0, 30.0, 0.9, 4.0)
        rounds = u.reshape(len(u), self.num_ops, 2)
        bins = np.full(rounds.shape[:2], self.magnitude)
        return self._choose(rounds, bins, table, sizes, share=150.0 / 331.0)


@dataclass(frozen=True)
class TrivialAugmentWide(_AutoAugment):
    """One random operation of random strength (torchvision's `TrivialAugmentWide`).

    Attributes:
        num_magnitude_bins: Steps of the strengths, >= 2.
        interpolation: 'nearest' or 'bilinear'.
        fill: Colour outside the picture, one number or (R, G, B) in 0..255; None for black.
    """

    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: float | Sequence[float] | None = None
    seed: int | None = None

    family: ClassVar[str] = "trivial_augment"
    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_count("num_magnitude_bins", self.num_magnitude_bins, 2)
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation, AFFINE_INTERPOLATIONS))
        object.__setattr__(self, "fill", check_colour("fill", 0 if self.fill is None else self.fill))
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AugmentParams:
        table = _space(self.num_magnitude_bins, 0.99, 32.0, 135.0, 0.99, 6.0)
        bins = np.floor(u[:, 2:] * self.num_magnitude_bins).astype(np.int64)
        return self._choose(u[:, None, :2], bins, table, sizes, share=None)
