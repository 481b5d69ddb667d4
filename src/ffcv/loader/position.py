"""Where an iteration is."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EPOCH = (1 << 32) - 1
"""Random numbers are made from 32 bits of it."""


@dataclass(frozen=True)
class Position:
    """A place between two batches.

    Attributes:
        epoch: From 0.
        consumed: Samples of the epoch, of all ranks together, that lie before it.
        named: `set_epoch` asked for this epoch, so that it is not passed over where nothing of it is left.
    """

    epoch: int = 0
    consumed: int = 0
    named: bool = False

    def at_epoch(self, epoch: int) -> Position:
        """Where `set_epoch(epoch)` leads from here: nowhere, if this is in that epoch."""
        return Position(epoch, self.consumed if epoch == self.epoch else 0, named=True)


@dataclass(eq=False)
class Pass:
    """An iteration that has begun.

    Attributes:
        before: What was next, what had been reached, and by which pass, before it; None as soon as it is used.
        is_unused: It went without having been asked for a batch, and counts for nothing.
    """

    before: tuple[Position, Position, Pass | None] | None
    is_unused: bool = False
