"""The original's import path."""

from ffcv.fields.decoder import Decoder

__all__ = ["Decoder"]
