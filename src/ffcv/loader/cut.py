"""How an epoch is cut into batches, and each batch into the ranks' parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Cut:
    """Cuts positions 0..n-1 of the epoch's order.

    A global batch takes the next `batch_size * world_size` positions, whatever the number of ranks; each rank takes one
    piece of it. The last global batch may be short. It is left out (`drop_last`), or filled up from the epoch's
    beginning until every rank's piece has the same size (`pad`), or cut into pieces that differ by one sample at most;
    then ranks at the end get no batch where fewer samples than ranks are left.

    Attributes:
        batch_size: Of one rank.
        rank: This process.
        world_size: Number of processes.
        drop_last: Leave a short last global batch out.
        pad: Fill it up.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = True
    pad: bool = False

    @property
    def step(self) -> int:
        """Samples in a global batch."""
        return self.batch_size * self.world_size

    def check(self, samples: int, on_error: str, selected: int, stacklevel: int) -> None:
        """Says what would surprise: nothing left, ranks that wait for each other for ever, an epoch cut twice.

        Args:
            samples: Of an epoch.
            on_error: The loader's.
            selected: Samples that the loader has to choose from.
            stacklevel: Of warnings: 1 would be this function.

        Raises:
            ValueError: `samples` do not fill a batch that must be full, or 'skip' would make ranks' batches unequal, or
                the last batch is to be left out and filled up.
        """
        if self.drop_last and self.pad:
            raise ValueError(
                "pad=True fills the last global batch up, but drop_last=True leaves it out: pass drop_last=False"
            )
        if self.drop_last and samples == 0:
            raise ValueError(
                "there are no samples at all: the file is empty, indices= chooses none, or filter() has kept none; "
                "drop_last=False makes a loader without batches of that"
            )
        if self.drop_last and samples < self.step:
            ranks = f" on each of {self.world_size} ranks" if self.world_size > 1 else ""
            most = samples // self.world_size
            advice = f"choose at most {most}" if most else f"use at most {samples} ranks"
            raise ValueError(
                f"batch_size {self.batch_size}{ranks} is more than the {samples} samples, and drop_last=True leaves "
                f"short batches out, so that nothing remains: {advice}, or drop_last=False"
            )
        if self.world_size > 1 and on_error == "skip":
            raise ValueError(
                "on_error='skip' makes batches smaller on the rank that meets a bad sample, and "
                f"{self.world_size} ranks that exchange anything need batches of the same size: use "
                "on_error='replace', or leave the samples out with indices="
            )
        if samples < selected and samples in (selected // self.world_size, self._share(selected)):
            warnings.warn(
                f"the order has {samples} of {selected} samples for {self.world_size} ranks: if it is one rank's part, "
                "as a DistributedSampler's is, it gets cut a second time and most samples are never seen; let it "
                "give the whole epoch, the same on all ranks",
                stacklevel=stacklevel,
            )
        rest = samples % self.step
        if not self.drop_last and not self.pad and 0 < rest < self.world_size:
            warnings.warn(
                f"the last global batch has {rest} samples for {self.world_size} ranks: ranks from {rest} on get one "
                "batch less, and ranks that wait for each other at every batch will hang; pass pad=True, or "
                "drop_last=True",
                stacklevel=stacklevel,
            )

    def _share(self, samples: int) -> int:
        """What a rank gets of samples that are filled up until all get as many."""
        return -(-samples // self.world_size)

    def steps(self, samples: int) -> int:
        """Global batches in `samples` samples."""
        whole, rest = divmod(samples, self.step)
        return whole + (rest > 0 and not self.drop_last)

    def count(self, samples: int) -> int:
        """Batches that this rank gets from `samples` samples."""
        rest = samples % self.step
        left_out = 0 < rest <= self.rank and not self.drop_last and not self.pad
        return self.steps(samples) - left_out

    def keeping_all(self) -> Cut:
        """This, with the short last batch."""
        return replace(self, drop_last=False)

    def batches(self, samples: int, start: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """This rank's batches from position `start` on: (positions int64 [B], global samples done after it)."""
        for number in range(self.count(samples - start)):
            begin = start + number * self.step
            size = min(self.step, samples - begin)
            if size == self.step:
                first, last = self.rank * self.batch_size, (self.rank + 1) * self.batch_size
            elif self.pad:
                share = self._share(size)
                first, last = self.rank * share, (self.rank + 1) * share
            else:
                share, longer = divmod(size, self.world_size)
                first = self.rank * share + min(self.rank, longer)
                last = first + share + (self.rank < longer)
            yield np.arange(begin + first, begin + last, dtype=np.int64) % samples, begin + size
