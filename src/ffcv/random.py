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

RNG_VERSION = 1
"""Changes when the same seed starts to give other samples or other augmentations; checkpoints of the loader name it."""


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


def permute(seed: int, stream: int, epoch: int, size: int, positions: np.ndarray) -> np.ndarray:
    """Looks `positions` up in a random order of 0..size-1 that depends on (seed, stream, epoch) alone.

    The order is never made: a Feistel network computes each place by itself, so `size` may be anything.

    Args:
        seed: 64-bit key.
        stream: 32-bit name of the order under that key, see `stream_id`.
        epoch: Which epoch, from 0.
        size: Length of the order.
        positions: int64 [B], within 0..size-1.

    Returns:
        int64 [B].
    """
    return _core.permute(seed & _SEED_MASK, stream, epoch, size, np.ascontiguousarray(positions, np.int64))
