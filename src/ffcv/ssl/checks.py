"""Checks of methods' options, in `__post_init__`; messages name them as on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

from ffcv.ssl.errors import ConfigError


def above_zero(options: Any, *names: str) -> None:
    """Each of the named options is a number above 0."""
    _require(options, names, lambda value: value > 0, "be above 0")


def zero_or_more(options: Any, *names: str) -> None:
    """Each of the named options is a number of 0 or more."""
    _require(options, names, lambda value: value >= 0, "be 0 or more")


def share(options: Any, *names: str) -> None:
    """Each of the named options is a number in [0, 1]."""
    _require(options, names, lambda value: 0 <= value <= 1, "be in [0, 1]")


def layers(options: Any, *names: str) -> None:
    """Each of the named options has the width of one layer or more."""
    _require(options, names, _not_empty, "name one layer or more")


def _not_empty(value: Sized) -> bool:
    return len(value) > 0


def _require(options: Any, names: tuple[str, ...], holds: Callable[[Any], bool], rule: str) -> None:
    method = type(options).__module__.rpartition(".")[2]
    for name in names:
        value = getattr(options, name)
        if not holds(value):
            raise ConfigError(f"{method}.{name} must {rule}, got {value}")
