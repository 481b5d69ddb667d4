"""Rotation, translation, scale and shear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ffcv._core import OpCode
from ffcv.transforms.base import ImageTransform, Op, only, op
from ffcv.transforms.validation import (
    LARGEST_SIDE,
    check_colour,
    check_count,
    check_interpolation,
    check_number,
    check_pair,
    check_probability,
    check_range,
    check_seed,
    numbers_in,
)

Angles = float | Sequence[float]
AFFINE_INTERPOLATIONS = ("nearest", "bilinear")
STEEPEST = 89.0  # degrees of a shear; these bounds keep the core's fixed-point coordinates in range
SCALES = (1e-3, 1e3)


class AffineParams(NamedTuple):
    applied: np.ndarray  # bool [B]
    angle: np.ndarray  # degrees, counter-clockwise as displayed for RandomRotation, clockwise for RandomAffine
    translate_x: np.ndarray  # int64, pixels to the right
    translate_y: np.ndarray  # int64, pixels down
    scale: np.ndarray
    shear_x: np.ndarray  # degrees
    shear_y: np.ndarray  # degrees
    width: np.ndarray  # int64, of the view in pixels
    height: np.ndarray


class TranslateParams(NamedTuple):
    down: np.ndarray  # int64 [B], pixels that the picture moves
    right: np.ndarray


def affine_op(matrices: np.ndarray, interpolation: str, fill: tuple[int, int, int]) -> Op:
    """The core's operation for `matrices`, float64 [B, 6], which take a target's (x, y) to the source's."""
    high = matrices.astype(np.float32)
    low = (matrices - high).astype(np.float32)  # together nearly a double: pixels at a border fall where Pillow's do
    return op(
        OpCode.affine, float(interpolation == "bilinear"), *fill, *np.stack([high, low], axis=2).reshape(-1, 12).T
    )


def inverse_matrices(
    centre: tuple[np.ndarray, np.ndarray],
    angle: np.ndarray,
    translate: tuple[np.ndarray, np.ndarray],
    scale: np.ndarray,
    shear: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """float64 [B, 6]: torchvision's inverse matrices; the angle (degrees) is clockwise."""
    turn, shear_x, shear_y = np.radians(angle), np.radians(shear[0]), np.radians(shear[1])
    a = np.cos(turn - shear_y) / np.cos(shear_y)
    b = -(a * np.tan(shear_x) + np.sin(turn))
    c = np.sin(turn - shear_y) / np.cos(shear_y)
    d = np.cos(turn) - c * np.tan(shear_x)
    m0, m1, m3, m4 = d / scale, -b / scale, -c / scale, a / scale
    x, y = centre[0] + translate[0], centre[1] + translate[1]
    return np.stack([m0, m1, centre[0] - m0 * x - m1 * y, m3, m4, centre[1] - m3 * x - m4 * y], axis=1)


def rotation_matrices(centre: tuple[np.ndarray, np.ndarray], angle: np.ndarray) -> np.ndarray:
    """float64 [B, 6]: Pillow's matrices of `Image.rotate`; the angle (degrees) is counter-clockwise."""
    turn = -np.radians(np.remainder(angle, 360.0))
    cos, sin = np.round(np.cos(turn), 15), np.round(np.sin(turn), 15)
    x, y = centre
    return np.stack([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y], axis=1)


def _angle_range(name: str, value: Angles, most: float = math.inf) -> tuple[float, float]:
    if isinstance(value, Real):
        angle = check_number(name, value, 0.0, most)
        return -angle, angle
    return check_range(name, value, -most, most)


def _shear_range(value: Angles) -> tuple[float, float, float, float]:
    """(min x, max x, min y, max y) from one number, a pair or the four."""
    four = numbers_in(value)
    if len(four) == 4:
        x, y = (check_range("shear", four[i : i + 2], -STEEPEST, STEEPEST) for i in (0, 2))
        return (*x, *y)
    if not isinstance(value, Real) and len(four) != 2:
        raise ValueError(f"shear must be None, one number, a pair (min, max) or four numbers, got {value!r}")
    return (*_angle_range("shear", value, STEEPEST), 0.0, 0.0)


@dataclass(frozen=True)
class RandomAffine(ImageTransform):
    """A random affine map that keeps the centre, with probability `p` (torchvision's `RandomAffine`).

    Attributes:
        degrees: A number d for angles in [-d, d], or the pair (min, max).
        translate: Greatest shifts as shares of the width and of the height, (x, y) in [0, 1]; None for none.
        scale: Range (min, max) of the factor, within [0.001, 1000]; None for 1.
        shear: A number s for shears along x in [-s, s] degrees, a pair (min, max) along x, or (min x, max x, min y,
            max y); within [-89, 89]; None for none.
        interpolation: 'nearest' or 'bilinear'.
        fill: Colour outside the picture, one number or (R, G, B) in 0..255.
        center: (x, y) that stays, in pixels from the top left corner; None for the middle.
    """

    degrees: Angles
    translate: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    shear: Angles | None = None
    interpolation: str = "nearest"
    fill: float | Sequence[float] = 0
    center: Sequence[float] | None = None
    p: float = 1.0
    seed: int | None = None

    family: ClassVar[str] = "affine"
    draws: ClassVar[int] = 7

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {"degrees": _angle_range("degrees", self.degrees)}
        if self.translate is not None:
            checked["translate"] = check_pair("translate", self.translate, "(x, y) of shares", 0.0, 1.0)
        if self.scale is not None:
            checked["scale"] = check_range("scale", self.scale, *SCALES)
        if self.shear is not None:
            checked["shear"] = _shear_range(self.shear)
        checked["interpolation"] = check_interpolation(self.interpolation, AFFINE_INTERPOLATIONS)
        checked["fill"] = check_colour("fill", self.fill)
        checked["center"] = _checked_centre(self.center)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AffineParams:
        shares = np.asarray(self.translate or (0.0, 0.0))
        shear = self.shear or (0.0, 0.0, 0.0, 0.0)
        ranges = np.array([self.degrees, self.scale or (1.0, 1.0), shear[:2], shear[2:]])  # type: ignore[index]
        angle, scale, shear_x, shear_y = (ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * u[:, [1, 4, 5, 6]]).T
        most = sizes[:, ::-1] * shares
        shift = np.rint((2.0 * u[:, 2:4] - 1.0) * most).astype(np.int64)
        params = (angle, shift[:, 0], shift[:, 1], scale, shear_x, shear_y, sizes[:, 1], sizes[:, 0])
        return AffineParams(u[:, 0] < self.p, *params)

    def lower(self, params: AffineParams) -> list[Op]:
        shift, shear = (params.translate_x, params.translate_y), (params.shear_x, params.shear_y)
        matrices = inverse_matrices(_centre(self.center, params), params.angle, shift, params.scale, shear)
        return only(params.applied, [affine_op(matrices, self.interpolation, self.fill)])  # type: ignore[arg-type]


@dataclass(frozen=True)
class RandomRotation(ImageTransform):
    """A random rotation, with probability `p` (torchvision's `RandomRotation`; the view keeps its size).

    Attributes:
        degrees: A number d for angles in [-d, d], or the pair (min, max); counter-clockwise.
        interpolation: 'nearest' or 'bilinear'.
        expand: Must be False: all pictures of a batch have one size.
        center: (x, y) that stays, in pixels from the top left corner; None for the middle.
        fill: Colour outside the picture, one number or (R, G, B) in 0..255.
    """

    degrees: Angles
    interpolation: str = "nearest"
    expand: bool = False
    center: Sequence[float] | None = None
    fill: float | Sequence[float] = 0
    p: float = 1.0
    seed: int | None = None

    family: ClassVar[str] = "rotation"
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.expand is not False:
            raise ValueError(f"expand must be False: all pictures of a batch have one size, got {self.expand!r}")
        object.__setattr__(self, "degrees", _angle_range("degrees", self.degrees))
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation, AFFINE_INTERPOLATIONS))
        object.__setattr__(self, "fill", check_colour("fill", self.fill))
        object.__setattr__(self, "center", _checked_centre(self.center))
        check_probability("p", self.p)
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> AffineParams:
        low, high = self.degrees  # type: ignore[misc] - __post_init__ made it a pair
        none, one = np.zeros(len(u)), np.ones(len(u))
        still = np.zeros(len(u), np.int64)
        turn = low + (high - low) * u[:, 1]
        return AffineParams(u[:, 0] < self.p, turn, still, still, one, none, none, sizes[:, 1], sizes[:, 0])

    def lower(self, params: AffineParams) -> list[Op]:
        matrices = rotation_matrices(_centre(self.center, params), params.angle)
        return only(params.applied, [affine_op(matrices, self.interpolation, self.fill)])  # type: ignore[arg-type]


def Rotate(rotate_prob: float = 0.5, angle: float = 0.2, seed: int | None = None) -> RandomRotation:
    """FFCV-SSL's name: rotates by -angle..angle radians, with probability `rotate_prob`."""
    most = math.degrees(check_number("angle", angle, 0.0))
    return RandomRotation(most, p=check_probability("rotate_prob", rotate_prob), seed=seed)


@dataclass(frozen=True)
class RandomTranslate(ImageTransform):
    """Moves the picture by up to `padding` pixels in each direction, as FFCV does.

    Attributes:
        padding: Greatest shift in pixels, >= 0.
        fill: Colour that appears at the border, one number or (R, G, B) in 0..255.
    """

    padding: int
    fill: float | Sequence[float] = (128, 128, 128)
    seed: int | None = None

    family: ClassVar[str] = "translate"
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", check_count("padding", self.padding, 0, LARGEST_SIDE))
        object.__setattr__(self, "fill", check_colour("fill", self.fill))
        check_seed("seed", self.seed)

    def sample(self, u: np.ndarray, sizes: np.ndarray) -> TranslateParams:
        shifts = np.floor(u * (2 * self.padding + 1)).astype(np.int64) - self.padding
        return TranslateParams(shifts[:, 0], shifts[:, 1])

    def lower(self, params: TranslateParams) -> list[Op]:
        matrices = np.tile([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], (len(params.down), 1))
        matrices[:, 2], matrices[:, 5] = -params.right, -params.down
        return [affine_op(matrices, "nearest", self.fill)]  # type: ignore[arg-type]


def _checked_centre(center: Sequence[float] | None) -> tuple[float, float] | None:
    return None if center is None else check_pair("center", center, "(x, y) in pixels", -LARGEST_SIDE, LARGEST_SIDE)


def _centre(center: Sequence[float] | None, params: AffineParams) -> tuple[np.ndarray, np.ndarray]:
    if center is None:
        return params.width * 0.5, params.height * 0.5
    return np.full(len(params.width), float(center[0])), np.full(len(params.width), float(center[1]))
