"""What training raises for its users to act on; `ffcv` prints each as one line."""

from __future__ import annotations

from ffcv.errors import FfcvError


class ConfigError(FfcvError, ValueError):
    """The configuration is wrong, or does not fit the data or the checkpoint."""


class DivergedError(FfcvError, ArithmeticError):
    """The loss is no longer a number."""


class Interrupted(Exception):
    """A signal asked the run to stop; it has saved its state and goes on with `resume='auto'`.

    Attributes:
        signum: the signal, None where another process got it.
    """

    def __init__(self, message: str, signum: int | None) -> None:
        super().__init__(message)
        self.signum = signum
