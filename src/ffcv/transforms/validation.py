"""Checks of transforms' arguments: each error names the argument, what it got, and what is allowed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

LARGEST_SIDE = 65535  # pixels; what a .beton file can hold
MOST_DRAWS = 1 << 18  # uniforms an operation and sample: what the core draws


def is_number(value: object) -> bool:
    """Whether `value` is one finite number; numpy's count, True and False do not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def numbers_in(value: object) -> list[Any]:
    """The elements of a list, tuple or array of finite numbers; empty for anything else."""
    try:
        elements = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else []
    except TypeError:  # of an array or tensor without axes
        elements = []
    return elements if all(is_number(element) for element in elements) else []


def check_probability(name: str, value: float) -> float:
    """`value` itself."""
    if not isinstance(value, Real) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a probability in [0, 1], got {value!r}")
    return value


def size_of(value: object) -> tuple[int, int] | None:
    """(height, width) from one positive whole number or a pair of them; None for anything else."""
    if type(value) is tuple and tuple(map(type, value)) == (int, int) and 1 <= min(value) <= max(value) <= LARGEST_SIDE:
        return value  # what this returned before: pipelines ask again for every batch
    pair: list[Any] = [value, value] if is_number(value) else numbers_in(value)
    if len(pair) != 2 or not all(1 <= side <= LARGEST_SIDE and int(side) == side for side in pair):
        return None
    return int(pair[0]), int(pair[1])


def check_size(name: str, value: object) -> tuple[int, int]:
    """(height, width) from one positive whole number or a pair of them."""
    size = size_of(value)
    if size is None:
        raise ValueError(
            f"{name} must be a positive number of pixels or a pair (height, width), at most {LARGEST_SIDE}, "
            f"got {value!r}"
        )
    return size


def check_range(name: str, value: object, low: float, high: float, *, low_open: bool = False) -> tuple[float, float]:
    """An ordered pair (min, max) of finite numbers within low..high (`low_open`: above low)."""
    pair = numbers_in(value)
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high or (low_open and pair[0] == low):
        allowed = f"{'(' if low_open else '['}{low:g}, {high:g}]"
        raise ValueError(f"{name} must be a pair (min, max) with min <= max within {allowed}, got {value!r}")
    return float(pair[0]), float(pair[1])


def check_pair(
    name: str, value: object, meaning: str, low: float = -math.inf, high: float = math.inf
) -> tuple[float, float]:
    """Two finite numbers within low..high; `meaning` says of what."""
    pair = numbers_in(value)
    if len(pair) != 2 or not all(low <= number <= high for number in pair):
        allowed = "" if math.isinf(low) else f" within [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be None or a pair {meaning}{allowed}, got {value!r}")
    return float(pair[0]), float(pair[1])


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_interpolation(value: object, allowed: Sequence[str]) -> str:
    """One of the names in `allowed`, which torchvision's `InterpolationMode` may spell."""
    name = str(getattr(value, "value", value)).lower()
    check_choice("interpolation", name, allowed)
    return name


def one_probability(name: str, value: float, default: float, p: float | None) -> float:
    """A probability from the argument `name`, or from torchvision's `p` if that is not None; both is one too many."""
    if p is None:
        return check_probability(name, value)
    if value != default:
        raise ValueError(f"p is another name for {name}; both are given: {p!r}, {value!r}")
    return check_probability("p", p)


def check_seed(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise ValueError(f"{name} must be an int or None, got {value!r}")


def check_colour(name: str, value: Any) -> tuple[int, int, int]:
    """(R, G, B) from one number or three, each in 0..255; of fractions the whole part, as in FFCV, with a warning."""
    triple = 3 * [value] if is_number(value) else numbers_in(value)
    if len(triple) != 3 or not all(0 <= v <= 255 for v in triple):
        raise ValueError(f"{name} must be one number or three (R, G, B) within 0..255, got {value!r}")
    if any(v != int(v) for v in triple):
        warnings.warn(f"{name} is a colour in whole steps of 0..255: {value!r} loses its fractions", stacklevel=4)
    return int(triple[0]), int(triple[1]), int(triple[2])


def check_count(name: str, value: Any, low: int, high: float = math.inf) -> int:
    """A whole number within low..high."""
    number: Any = value if isinstance(value, Integral) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        allowed = f"at least {low}" if math.isinf(high) else f"within {low}..{high:g}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float = math.inf, *, low_open: bool = False) -> float:
    """A finite number within low..high (`low_open`: above low)."""
    if not is_number(value) or not low <= value <= high or (low_open and value == low):
        opening = "(" if low_open else "["
        bound = f"above {low:g}" if low_open else f"of at least {low:g}"
        allowed = bound if math.isinf(high) else f"within {opening}{low:g}, {high:g}]"
        raise ValueError(f"{name} must be a finite number {allowed}, got {value!r}")
    return float(value)
