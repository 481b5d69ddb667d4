"""Sources to convert from."""

from ffcv.data.folder import ImageFolder

__all__ = ["ImageFolder"]
