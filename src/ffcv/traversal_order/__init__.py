"""In which order the samples of an epoch come."""

from ffcv.traversal_order.base import LazyOrder, TraversalOrder
from ffcv.traversal_order.quasi_random import QuasiRandom
from ffcv.traversal_order.random import Random
from ffcv.traversal_order.sampled import Sampled
from ffcv.traversal_order.sequential import Sequential, SequentialContiguous

__all__ = ["LazyOrder", "QuasiRandom", "Random", "Sampled", "Sequential", "SequentialContiguous", "TraversalOrder"]
