"""Embeddings of earlier batches, for methods that need more of them than a batch has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl.distributed import gather


class Queue(nn.Module):
    """The last `length` embeddings of all ranks, unit-length rows; random directions before there are so many.

    It is part of its method's state, so a checkpoint has it, and it is the same on every rank.

    Attributes:
        rows: float32 [length, width], a ring: the oldest is overwritten first.
        count: embeddings that ever came in. A number of Python's: reading it from a GPU would wait for that.
    """

    rows: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, width), dim=1))
        self.count = 0

    @property
    def filled(self) -> Tensor:
        """The rows that came in, [min(count, length), width], without the random ones."""
        return self.rows[: self.count]

    @torch.no_grad()
    def push(self, z: Tensor) -> None:
        """Replace the oldest rows by all ranks' z [N, width]."""
        new = gather(F.normalize(z.detach().float(), dim=1)).rows
        kept = new[-len(self.rows) :]
        first = self.count + len(new) - len(kept)
        places = torch.arange(first, first + len(kept), device=new.device) % len(self.rows)
        self.rows[places] = kept.to(self.rows.dtype)
        self.count += len(new)

    def get_extra_state(self) -> Tensor:
        """`count`, for the state dictionary."""
        return torch.tensor(self.count)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave."""
        self.count = int(state)
