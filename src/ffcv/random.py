"""Random numbers as a function of (seed, stream, epoch, sample), and of nothing else.

Philox4x32-10 (Salmon et al., SC 2011) makes them in the core. No slot, batch, thread, process or rank takes part, so
any split of the work draws the same augmentations.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ffcv import _core

_SEED_MASK = (1 << 64) - 1


def stream_id(*parts: object) -> int:
    """A stable 32-bit name for a stream of random numbers, from what distinguishes it."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=4).digest(), "little")


@dataclass(frozen=True)
class Stream:
    """One operation's source of random numbers.

    Attributes:
        seed: 64-bit key of the generator.
        stream: 32-bit name of the stream under that key, see `stream_id`.
    """

    seed: int
    stream: int

    def uniforms(self, samples: np.ndarray, epoch: int, count: int) -> np.ndarray:
        """Draws `count` uniforms for each sample.

        Args:
            samples: int64 [B], indices of the samples in the dataset.
            epoch: Which epoch, from 0.
            count: Draws for each sample.

        Returns:
            float64 [B, count] in [0, 1), multiples of 2^-32.
        """
        return _core.uniforms(self.seed & _SEED_MASK, self.stream, epoch, samples, count)


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """An order of 0..size-1 that depends on (seed, epoch) alone, int64 [size]."""
    draws = Stream(seed, stream_id("order")).uniforms(np.arange(size, dtype=np.int64), epoch, 1)
    return np.argsort(draws[:, 0], kind="stable")
