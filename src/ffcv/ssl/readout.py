"""Numbers on their way from the device to Python, so that the device never waits for Python to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ffcv.ssl.distributed import world_size


class Readout:
    """Scalars by name, averaged over ranks; the copy begins here and `values` waits for it alone.

    On a GPU the loop sends its losses, launches the backward pass, and then reads: what it waits for has been computed
    while it launched.
    """

    def __init__(self, scalars: Mapping[str, Tensor]) -> None:
        self._names = list(scalars)
        stacked = torch.stack([scalar.detach().float() for scalar in scalars.values()])
        if world_size() > 1:
            dist.all_reduce(stacked.div_(world_size()))
        self._copy = stacked.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if stacked.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def values(self) -> dict[str, float]:
        """The scalars as Python numbers."""
        if self._copied is not None:
            self._copied.synchronize()
        return dict(zip(self._names, self._copy.tolist(), strict=True))


def mean(readouts: Sequence[Readout]) -> dict[str, float]:
    """The means over several readouts of the same scalars."""
    values = [readout.values() for readout in readouts]
    return {name: sum(row[name] for row in values) / len(values) for name in values[0]}
