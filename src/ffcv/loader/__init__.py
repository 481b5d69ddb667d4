"""Batches from a file."""

from ffcv.loader.loader import ORDER_TYPE, Loader, OrderOption

__all__ = ["ORDER_TYPE", "Loader", "OrderOption"]
