"""Checks of transforms' arguments: each error names the argument, what it got, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any


def check_probability(name: str, value: float) -> None:
    if not isinstance(value, Real) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a probability in [0, 1], got {value!r}")


def check_size(name: str, value: object) -> tuple[int, int]:
    """(height, width) from one positive int or a pair of them."""
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, Sequence) or len(pair) != 2 or any(int(side) != side or side < 1 for side in pair):
        raise ValueError(f"{name} must be a positive number of pixels or a pair (height, width), got {value!r}")
    return int(pair[0]), int(pair[1])


def check_range(name: str, value: object, low: float, high: float, *, low_open: bool = False) -> tuple[float, float]:
    """An ordered pair (min, max) of finite numbers within low..high (`low_open`: above low)."""
    allowed = f"{'(' if low_open else '['}{low:g}, {high:g}]"
    ok = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, Real) for v in value)
    if ok:
        first, last = float(value[0]), float(value[1])  # type: ignore[index]
        ok = math.isfinite(first) and math.isfinite(last) and low <= first <= last <= high
        ok = ok and (first > low or not low_open)
        if ok:
            return first, last
    raise ValueError(f"{name} must be a pair (min, max) with min <= max within {allowed}, got {value!r}")


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_seed(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{name} must be an int or None, got {value!r}")


def check_colour(name: str, value: Any) -> tuple[int, int, int]:
    """(R, G, B) from one number or three, each in 0..255."""
    triple: list[Any] = 3 * [value] if isinstance(value, Real) else list(value) if isinstance(value, Iterable) else []
    if len(triple) != 3 or not all(isinstance(v, Real) for v in triple) or not all(0 <= v <= 255 for v in triple):
        raise ValueError(f"{name} must be one number or three (R, G, B) within 0..255, got {value!r}")
    return int(triple[0]), int(triple[1]), int(triple[2])


def check_count(name: str, value: Any, low: int, high: float = math.inf) -> int:
    """A whole number within low..high."""
    number: Any = value if isinstance(value, Integral) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        allowed = f"at least {low}" if math.isinf(high) else f"within {low}..{high:g}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite number within low..high."""
    number: Any = value if isinstance(value, Real) else math.nan
    if not math.isfinite(number) or not low <= number <= high:
        allowed = f"of at least {low:g}" if math.isinf(high) else f"within [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be a finite number {allowed}, got {value!r}")
    return float(value)
