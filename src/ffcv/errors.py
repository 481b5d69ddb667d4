"""The errors that users see. A message says what is wrong, with which file or sample, and what to do."""

from __future__ import annotations

from ffcv._core import DecodeError

__all__ = [
    "OUR_ERRORS",
    "DecodeError",
    "FfcvError",
    "FormatError",
    "SourceError",
    "WriteError",
    "message_of",
    "one_line",
    "storable",
]


class FfcvError(Exception):
    """Base of the errors raised in Python; `DecodeError` comes from the core and is a `ValueError`."""


class FormatError(FfcvError, ValueError):
    """A `.beton` file does not keep to the format: truncated, damaged, or something else altogether."""


class SourceError(FfcvError, ValueError):
    """The data to be written cannot be used: an unreadable image, a folder of an unexpected shape."""


class WriteError(FfcvError, RuntimeError):
    """A file could not be written; whatever was at its path before is still there, or nothing.

    Attributes:
        sample_index: Position in the new file of the sample that failed, or None where no one sample is to
            blame.
    """

    def __init__(self, message: str, sample_index: int | None = None) -> None:
        super().__init__(message)
        self.sample_index = sample_index

    def __reduce__(self) -> tuple[type[WriteError], tuple[str, int | None]]:
        # Exceptions are pickled by their `args`, which would lose the index on the way from a worker process.
        return type(self), (str(self), self.sample_index)


OUR_ERRORS: tuple[type[Exception], ...] = (FfcvError, DecodeError)


def storable(text: str) -> str:
    """The text in characters that UTF-8 has. Names of files that are not UTF-8 hold halves of surrogate pairs, which
    neither a file nor a terminal takes; these become escapes such as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def message_of(error: BaseException) -> str:
    """The error's message on one line, `storable`."""
    return storable(" ".join(str(error).split()))


def one_line(error: BaseException) -> str:
    """The error's message on one line; with its type's name where the message was not written by us."""
    text = message_of(error)
    if isinstance(error, OUR_ERRORS):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
