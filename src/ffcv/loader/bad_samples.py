"""What happens to samples that cannot be decoded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ffcv._forks import ForkSafeLock
from ffcv.loader.selection import Selection
from ffcv.pipeline.plan import SampleError
from ffcv.random import permute, stream_id

OnError = Literal["raise", "skip", "replace"]
_ATTEMPTS = 16


class BadSamples:
    """Applies the loader's policy, and counts.

    'raise' hands the error on. 'skip' makes the batch without the bad samples, so that it is smaller, or not at all.
    'replace' puts another of the epoch's samples in each one's place: which one is a function of (seed, sample) and of
    which samples the epoch has.
    A sample that failed once is treated without another attempt from then on.

    Args:
        policy: 'raise', 'skip' or 'replace'.
        seed: The loader's.

    Attributes:
        messages: What is wrong, by dataset index, of all bad samples met so far.
        error: The last one met.
        skipped: How often a sample was left out.
        replaced: How often one was replaced.
    """

    def __init__(self, policy: OnError, seed: int) -> None:
        if policy not in ("raise", "skip", "replace"):
            raise ValueError(f"on_error must be 'raise', 'skip' or 'replace', got {policy!r}")
        self.policy = policy
        self.messages: dict[int, str] = {}
        self.error: SampleError | None = None
        self.skipped = 0
        self.replaced = 0
        self._seed = seed
        self._counting = ForkSafeLock()

    def render(
        self, samples: np.ndarray, render: Callable[[np.ndarray], Any], candidates: Callable[[], Selection]
    ) -> Any:
        """`render(samples)`, with bad samples treated; None where all are skipped.

        Args:
            samples: int64 [B].
            render: Makes a batch.
            candidates: The epoch's samples, from which replacements are taken.

        Raises:
            SampleError: The policy is 'raise', or there is nothing to put in a sample's place.
        """
        while True:
            good = self._without_bad(samples, candidates)
            if not len(good):
                self._count(samples, good)
                return None
            try:
                result = render(good)
            except SampleError as error:
                if self.policy == "raise" or error.samples.keys().isdisjoint(good.tolist()):
                    raise
                with self._counting:  # a new one: whoever goes through it meanwhile is not disturbed
                    self.messages = self.messages | error.samples
                self.error = copy.copy(error)  # without its traceback, which holds the memory of the failed attempt
                continue
            self._count(samples, good)
            return result

    def _count(self, samples: np.ndarray, good: np.ndarray) -> None:
        if good is samples:
            return
        with self._counting:  # two iterators of a loader share this
            if len(samples) == len(good):
                self.replaced += int(np.count_nonzero(samples != good))
            else:
                self.skipped += len(samples) - len(good)

    def _without_bad(self, samples: np.ndarray, candidates: Callable[[], Selection]) -> np.ndarray:
        if self.error is None or not any(sample in self.messages for sample in samples.tolist()):
            return samples
        if self.policy == "skip":
            return np.array([sample for sample in samples.tolist() if sample not in self.messages], np.int64)
        found = {sample: self._replacement(sample, candidates()) for sample in samples.tolist()}
        lacking = {sample: self.messages[sample] for sample, other in found.items() if other is None}
        if lacking:
            raise SampleError(self.error.path, self.error.field, lacking)
        return np.array([found[sample] for sample in samples.tolist()], np.int64)

    def _replacement(self, sample: int, candidates: Selection) -> int | None:
        """The sample itself if it is good, else the first good one of a fixed random sequence."""
        if sample not in self.messages:
            return sample
        tries = np.arange(min(_ATTEMPTS, candidates.size))
        places = permute(self._seed, stream_id("replacement", sample), 0, candidates.size, tries)
        sequence = candidates.at(places)
        return next((other for other in sequence.tolist() if other not in self.messages), None)
