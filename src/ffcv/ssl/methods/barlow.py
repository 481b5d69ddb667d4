"""Barlow Twins: Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy
Reduction", ICML 2021, https://arxiv.org/abs/2103.03230, equations 1 and 2 and algorithm 1.

With A, B the embeddings of two views, each column centred and scaled to deviation 1 over the N images,

    C_ij = 1/N sum_b A_bi B_bj,    loss = sum_i (1 - C_ii)^2 + l sum_{i != j} C_ij^2
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
def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float) -> Terms:
    """The loss of two views, each [N, E] on this rank, and its terms; `off_diagonal` is l above.

    Every rank computes the loss of the whole batch from everyone's embeddings. As in the authors' code, the
    scaling is batch normalisation's: 1e-5 is added to the variance, so that a dead column stays finite.
    """
    views = [gather(z).rows for z in (first, second)]
    centred = [z - z.mean(0) for z in views]
    scaled = [z * (z.square().mean(0) + 1e-5).rsqrt() for z in centred]
    correlation = scaled[0].T @ scaled[1] / len(views[0])
    diagonal = correlation.diagonal()
    invariance = (1 - diagonal).square().sum()
    redundancy = (correlation - torch.diag(diagonal)).square().sum()
    return {"loss": invariance + off_diagonal * redundancy, "invariance": invariance, "redundancy": redundancy}


@dataclass(frozen=True)
class Options:
    """Barlow Twins' own options.

    Attributes:
        off_diagonal: l above; 0.0051 in the paper with 8192 columns, more for fewer.
        scale: factor on the whole loss; 0.024 in the authors' code for LARS (AdamW does not feel it).
        projector: widths of the projector's layers; 8192 three times in the paper.
    """

    off_diagonal: float = 0.0051
    scale: float = 1.0
    projector: tuple[int, ...] = (2048, 2048, 2048)

    def __post_init__(self) -> None:
        checks.zero_or_more(self, "off_diagonal")
        checks.above_zero(self, "scale")


class BarlowTwins(Method):
    """Two views, an MLP projector, and `barlow_twins`."""

    Options = Options
    views_apart = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="linear")

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        first, second = embeddings
        terms = barlow_twins(first, second, self.options.off_diagonal)
        return {**terms, "loss": self.options.scale * terms["loss"]}
