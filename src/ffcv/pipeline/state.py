"""What an operation is given: shape, dtype and device of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class State:
    """What flows through a pipeline at one point; make changed copies with `dataclasses.replace`.

    Attributes:
        jit_mode: The batch is a numpy array, and code that works on it can be compiled.
        device: Where the batch is.
        shape: Of one sample, without the batch's axis; None before decoding.
        dtype: numpy dtype of arrays, torch dtype of tensors.
    """

    jit_mode: bool
    device: torch.device
    shape: tuple[int, ...] | None
    dtype: Any

    def __post_init__(self) -> None:
        self.device = torch.device(self.device)
        if self.jit_mode and self.device.type != "cpu":
            raise ValueError(f"jit_mode is for numpy arrays on the CPU, but the device is {self.device}")
