"""FFCV-SSL: fast, deterministic image loading for self-supervised training."""

from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter

__version__ = "0.1.0"

__all__ = ["DatasetWriter", "Loader", "OrderOption", "__version__"]
