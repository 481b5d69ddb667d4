"""A teacher: a copy of the student that follows it slowly and never learns by itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ffcv.ssl.optim import half_cosine


class Teacher(nn.Module):
    """A frozen copy of `student`, updated after each step to a moving average of the student's weights.

    Its normalisation layers work as the student's do while training (with the batch's statistics, as in BYOL
    and DINO), and keep running statistics of their own. It is part of its method's state, so a checkpoint has it.

    Args:
        student: the modules that it copies, called one after the other.
    """

    def __init__(self, *student: nn.Module) -> None:
        super().__init__()
        self.network = nn.Sequential(*copy.deepcopy(student)).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    @torch.no_grad()
    def follow(self, *student: nn.Module, momentum: float) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * student, for all parameters."""
        mine, theirs = (tuple(network.parameters()) for network in (self.network, nn.Sequential(*student)))
        get_ema_multi_avg_fn(momentum)(mine, theirs, 0)


def momentum_at(step: int, total_steps: int, start: float) -> float:
    """From `start` to 1 along half a cosine: 1 - (1 - start) (cos(pi k / K) + 1) / 2.

    Grill et al., https://arxiv.org/abs/2006.07733, section 3.3; DINO and MoCo v3 use the same.
    """
    return half_cosine(start, 1.0, step / total_steps)
