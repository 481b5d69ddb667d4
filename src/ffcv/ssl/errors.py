"""What training raises for its users to act on; `ffcv` prints each as one line."""

from __future__ import annotations

from ffcv.errors import FfcvError


class ConfigError(FfcvError, ValueError):
    """The configuration is wrong, or does not fit the data or the checkpoint."""


class DivergedError(FfcvError, ArithmeticError):
    """The loss is no longer a number."""
