"""Where a run is."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """Steps done, and the epoch that they lead to: the one in progress until its row is written, then the next."""

    step: int
    epoch: int
