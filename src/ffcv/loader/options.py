"""What a loader is told, checked."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch.utils.data

from ffcv.traversal_order import QuasiRandom, Random, Sampled, Sequential, SequentialContiguous, TraversalOrder


class OrderOption(Enum):
    """In which order samples come."""

    SEQUENTIAL = 1
    SEQUENTIAL_CONTIGUOUS = 2
    RANDOM = 3
    QUASI_RANDOM = 4


ORDER_TYPE = TraversalOrder | OrderOption | type[TraversalOrder]

_ORDERS: dict[OrderOption, type[TraversalOrder]] = {
    OrderOption.SEQUENTIAL: Sequential,
    OrderOption.SEQUENTIAL_CONTIGUOUS: SequentialContiguous,
    OrderOption.RANDOM: Random,
    OrderOption.QUASI_RANDOM: QuasiRandom,
}


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than `least` or more than `most`.
    """
    if isinstance(value, bool | type) or not hasattr(value, "__index__"):
        is_order = isinstance(value, OrderOption) or (isinstance(value, type) and issubclass(value, TraversalOrder))
        hint = ": pass the order by name, order=..." if is_order else ""
        raise TypeError(f"{name} must be a whole number, got {value!r}{hint}")
    number = operator.index(value)
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def choose_order(
    order: Any, shuffle: bool | None, sampler: Any, order_kwargs: dict[str, Any]
) -> tuple[type[TraversalOrder], dict[str, Any]]:
    """The class of the order and its further arguments.

    Raises:
        TypeError: `order` is none.
        ValueError: `order`, `shuffle` and `sampler` contradict each other.
    """
    if sampler is not None and shuffle is False:
        shuffle = None  # as in torch: it only says that nothing else shuffles
    given = [
        name for name, value in (("order", order), ("shuffle", shuffle), ("sampler", sampler)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} each decide the order: pass one of them")
    if isinstance(sampler, torch.utils.data.DistributedSampler):
        raise ValueError(
            "a DistributedSampler splits the epoch a second time: pass distributed=True and shuffle= instead"
        )
    if isinstance(sampler, torch.utils.data.BatchSampler):
        raise ValueError("a BatchSampler gives batches: pass batch_size= and the sampler inside it")
    if sampler is not None and (not isinstance(sampler, Iterable) or isinstance(sampler, Iterator)):
        raise TypeError(
            f"sampler must give its indices anew every epoch: a list, a torch sampler, ...; got {sampler!r}"
        )
    if sampler is not None and order_kwargs:
        raise ValueError(f"order_kwargs are for a TraversalOrder, but sampler= decides the order; got {order_kwargs}")
    if sampler is not None:
        return Sampled, {"sampler": sampler}
    if shuffle is not None:
        order = OrderOption.RANDOM if shuffle else OrderOption.SEQUENTIAL
    if order is None:
        order = OrderOption.SEQUENTIAL
    if isinstance(order, OrderOption):
        return _ORDERS[order], order_kwargs
    if isinstance(order, type) and issubclass(order, TraversalOrder):
        return order, order_kwargs
    raise TypeError(f"order must be an OrderOption or a subclass of TraversalOrder, got {order!r}")


def check_indices(indices: Sequence[int] | np.ndarray | None, num_samples: int) -> np.ndarray | None:
    """int64 [N], or None for the whole file."""
    if indices is None:
        return None
    result = np.asarray(indices)
    if result.dtype == bool:
        raise ValueError("indices must be whole numbers, got a mask: pass np.flatnonzero(mask)")
    if result.ndim != 1 or (result.size and not np.issubdtype(result.dtype, np.integer)):
        raise ValueError(f"indices must be a flat list of integers, got {result.dtype} {list(result.shape)}")
    if result.size and not (result.min() >= 0 and result.max() < num_samples):
        raise ValueError(f"indices must be within 0..{num_samples - 1}, got {result.min()}..{result.max()}")
    return result.astype(np.int64)


def default_os_cache() -> bool:
    """True, unless the environment says FFCV_DEFAULT_CACHE_PROCESS=1."""
    text = os.environ.get("FFCV_DEFAULT_CACHE_PROCESS", "0")
    if text not in ("0", "1"):
        raise ValueError(f"FFCV_DEFAULT_CACHE_PROCESS must be 0 or 1, got {text!r}")
    return text == "0"
