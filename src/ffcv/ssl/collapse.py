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
    """RankMe, a smooth rank of the features: Garrido, Balestriero, Najman, LeCun, "RankMe: Assessing the Downstream
    Performance of Pretrained Self-Supervised Representations by Their Rank", ICML 2023, https://arxiv.org/abs/2210.02885,
    equation 1. With s_k the singular values of the features Z [N, D], not centred,

        RankMe(Z) = exp( -sum_k p_k log p_k ),    p_k = s_k / sum_j s_j + 1e-7,    k = 1 .. min(N, D)

    between 1 (all features on one line) and min(N, D). Compare values of the same N and D only: the paper takes
    N = 25,600, and few images bound it.

    Args:
        features: float [N, D].

    Returns:
        float64 scalar.
    """
    z = features.detach().double()
    # The eigenvalues of the smaller of Z'Z and ZZ' are the squares: much cheaper than a decomposition of Z, and in
    # float64 what they lose of the smallest values is less than the equation's 1e-7.
    gram = z.T @ z if len(z) > z.shape[1] else z @ z.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = values / values.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp()
