"""SwAV: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020,
https://arxiv.org/abs/2006.09882, equations 1 to 5 and algorithm 1. Without the queue that it uses for small batches.

With s the cosines of a view's embeddings to K prototypes, q the codes of a global view, without gradient, and the mean
over all pairs of a global view and another one,

    q = Sinkhorn(exp(s / e)),   p = softmax(s' / t),   loss = mean -sum_k q_k log p_k
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl.distributed import gather, mean
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods.base import Method


@torch.no_grad()
@in_float32
def sinkhorn(scores: Tensor, sharpness: float, iterations: int) -> Tensor:
    """Codes [N, K] of this rank's images: rows that sum to 1, prototypes used equally over all ranks' images.

    Computed with logarithms, so that no sharpness overflows.

    Args:
        scores: float [N, K] on this rank.
        sharpness: e above.
        iterations: each makes the columns' sums equal, then the rows'.
    """
    everyone = gather(scores)
    log_q = everyone.rows / sharpness
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0)
        log_q = log_q.log_softmax(1)
    return log_q[everyone.offset : everyone.offset + len(scores)].exp()


@in_float32
def swav(scores: Sequence[Tensor], codes: Sequence[Tensor], temperature: float) -> Tensor:
    """The loss of all views' scores and the first views' codes, each [N, K] on this rank."""
    losses = []
    for i, wanted in enumerate(codes):
        for j, guess in enumerate(scores):
            if i != j:
                losses.append(mean(-(wanted * (guess / temperature).log_softmax(1)).sum(1)))
    return torch.stack(losses).mean()


@dataclass(frozen=True)
class Options:
    """SwAV's own options.

    Attributes:
        temperature: t above.
        sharpness: e above.
        iterations: of Sinkhorn.
        frozen_share: share of the training in which the prototypes keep still; about an epoch in the paper.
        projector: widths of the projector's layers; 2048, 128 in the paper.
        num_prototypes: K above; 3000 in the paper. A batch should have a good part of that.
    """

    temperature: float = 0.1
    sharpness: float = 0.05
    iterations: int = 3
    frozen_share: float = 0.01
    projector: tuple[int, ...] = (2048, 128)
    num_prototypes: int = 3000

    def __post_init__(self) -> None:
        for name in ("temperature", "sharpness", "iterations", "num_prototypes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"swav.{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.frozen_share <= 1:
            raise ConfigError(f"swav.frozen_share must be in [0, 1], got {self.frozen_share}")
        if not self.projector:
            raise ConfigError("swav.projector must name one layer or more")


class SwAV(Method):
    """Global and local views, a projector, and prototypes of unit length."""

    Options = Options
    multi_crop = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="linear")
        self.prototypes = nn.Linear(options.projector[-1], options.num_prototypes, bias=False)

    def embed(self, features: Tensor) -> Tensor:
        weight = self.prototypes.weight
        if self.step < self.options.frozen_share * self.total_steps:
            # Gradients of zero rather than none, which data parallelism would take for an unused parameter.
            weight = weight.detach() + 0 * weight
        return F.linear(F.normalize(self.projector(features), dim=1), F.normalize(weight, dim=1))

    def loss(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None = None,
        targets: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        o = self.options
        codes = [sinkhorn(scores.detach(), o.sharpness, o.iterations) for scores in embeddings[:2]]
        return {"loss": swav(embeddings, codes, o.temperature)}
