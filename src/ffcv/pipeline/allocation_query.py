"""What memory an operation wants to write to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class AllocationQuery:
    """Memory for one batch: `shape` for each sample.

    Attributes:
        shape: Of one sample.
        dtype: A numpy dtype asks for an array, a torch dtype for a tensor.
        device: Of a tensor; None for the CPU.
    """

    shape: Sequence[int]
    dtype: Any
    device: torch.device | str | None = None
