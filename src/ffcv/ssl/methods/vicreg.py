"""VICReg: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
Learning", ICLR 2022, https://arxiv.org/abs/2105.04906, equations 1 to 6 and algorithm 1.

With Z, Z' the embeddings [n, d] of two views, C the covariance matrix and S the standard deviations,

    s(Z, Z') = 1/nd sum_i |z_i - z'_i|^2                      invariance
    v(Z)     = 1/d  sum_j max(0, 1 - S_j),  S_j = sqrt(Var(z_j) + 1e-4)        variance
    c(Z)     = 1/d  sum_{i != j} C_ij^2                       covariance
    loss     = l s(Z, Z') + m (v(Z) + v(Z')) + n (c(Z) + c(Z'))

s is divided by d as in algorithm 1 (equation 5 is not); the paper's l = m = 25, n = 1 belong to that. The authors' code
halves v(Z) + v(Z'): its m = 25 is 12.5 here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.distributed import gather
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods.base import Method, Terms, Views


@in_float32
def vicreg(first: Tensor, second: Tensor, weights: tuple[float, float, float]) -> Terms:
    """The loss of two views, each [N, E] on this rank, and its terms; `weights` are l, m, n above.

    Every rank computes the loss of the whole batch from everyone's embeddings.
    """
    views = [gather(z).rows for z in (first, second)]
    rows, width = views[0].shape
    invariance = (views[0] - views[1]).square().mean()
    variance = covariance = invariance.new_zeros(())
    for z in views:
        centred = z - z.mean(0)
        moments = centred.T @ centred / max(1, rows - 1)
        variance = variance + (1 - (moments.diagonal() + 1e-4).sqrt()).relu().mean()
        covariance = covariance + (moments - torch.diag(moments.diagonal())).square().sum() / width
    loss = weights[0] * invariance + weights[1] * variance + weights[2] * covariance
    return {"loss": loss, "invariance": invariance, "variance": variance, "covariance": covariance}


@dataclass(frozen=True)
class Options:
    """VICReg's own options.

    Attributes:
        invariance: l above.
        variance: m above.
        covariance: n above.
        projector: widths of the expander's layers; 8192 three times in the paper.
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    projector: tuple[int, ...] = (2048, 2048, 2048)

    def __post_init__(self) -> None:
        checks.zero_or_more(self, "invariance", "variance", "covariance")


class VICReg(Method):
    """Two views, an MLP expander, and `vicreg`."""

    Options = Options
    views_apart = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="linear")

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        first, second = embeddings
        o = self.options
        return vicreg(first, second, (o.invariance, o.variance, o.covariance))
