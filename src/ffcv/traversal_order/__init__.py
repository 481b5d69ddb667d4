"""In which order the samples of an epoch come."""

from ffcv.traversal_order.base import TraversalOrder
from ffcv.traversal_order.random import Random
from ffcv.traversal_order.sequential import Sequential

__all__ = ["Random", "Sequential", "TraversalOrder"]
