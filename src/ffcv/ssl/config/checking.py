"""Checks of options, in their dataclasses' `__post_init__`."""

from __future__ import annotations

from ffcv.ssl.errors import ConfigError


def check(condition: bool, message: str) -> None:
    """Raise a `ConfigError` with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)
