"""Whether representations still tell images apart: figures that fall when an encoder collapses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def spread(features: Tensor) -> Tensor:
    """Mean standard deviation of the unit-length features' components, times sqrt(D).

    1 for directions spread evenly over the sphere, 0 where all images look the same (Chen and He,
    https://arxiv.org/abs/2011.10566, section 4.1).

    Args:
        features: float [N, D].
    """
    unit = F.normalize(features.detach().float(), dim=1)
    return unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5


def rank_me(features: Tensor) -> Tensor:
    """Effective rank: exp of the entropy of the singular values' shares, 1 to min(N, D) (Garrido et al.,
    https://arxiv.org/abs/2210.02885, equation 1).

    Args:
        features: float [N, D].
    """
    values = torch.linalg.svdvals(features.detach().float())
    share = values / values.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp()
