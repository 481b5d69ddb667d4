"""SwAV: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020,
https://arxiv.org/abs/2006.09882, equations 1 to 5 and algorithm 1.

With s the cosines of a view's embeddings to K prototypes, q the codes of a global view, without gradient, and the mean
over all pairs of a global view and another one,

    q = Sinkhorn(exp(s / e)),   p = softmax(s' / t),   loss = mean -sum_k q_k log p_k

For small batches, the embeddings of earlier ones take part in Sinkhorn (section 4.1's queue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.distributed import gather
from ffcv.ssl.heads import Prototypes, mlp
from ffcv.ssl.losses import cross_entropies, in_float32
from ffcv.ssl.memory import Queue
from ffcv.ssl.methods.base import Method, Terms, Views


@torch.no_grad()
@in_float32
def sinkhorn(scores: Tensor, earlier: Tensor, sharpness: float, iterations: int) -> Tensor:
    """Codes [N, K] of this rank's images: rows that sum to 1, prototypes used equally over all images.

    Computed with logarithms, so that no sharpness overflows.

    Args:
        scores: float [N, K] on this rank.
        earlier: float [M, K], scores of earlier images, the same on all ranks.
        sharpness: e above.
        iterations: each makes the columns' sums equal, then the rows'.
    """
    everyone = gather(scores)
    log_q = torch.cat([everyone.rows, earlier]) / sharpness
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0)
        log_q = log_q.log_softmax(1)
    return log_q[everyone.offset : everyone.offset + len(scores)].exp()


@in_float32
def swav(scores: Views, codes: Views, temperature: float) -> Tensor:
    """The loss of all views' scores and the first views' codes, each [N, K] on this rank."""
    return cross_entropies(codes, [s / temperature for s in scores])


@dataclass(frozen=True)
class Options:
    """SwAV's own options.

    Attributes:
        temperature: t above.
        sharpness: e above.
        iterations: of Sinkhorn.
        frozen_share: share of the training in which the prototypes keep still; about an epoch in the paper.
        projector: widths of the projector's layers; 2048, 128 in the paper.
        num_prototypes: K above; 3000 in the paper.
        queue: earlier images that take part in Sinkhorn, 0 for none; 3840 in the paper with batches of 256.
            Together with a batch they should be more than the prototypes.
        queue_share: share of the training before they do, since early embeddings change fast; 15 epochs in the paper.
    """

    temperature: float = 0.1
    sharpness: float = 0.05
    iterations: int = 3
    frozen_share: float = 0.01
    projector: tuple[int, ...] = (2048, 128)
    num_prototypes: int = 3000
    queue: int = 0
    queue_share: float = 0.1

    def __post_init__(self) -> None:
        checks.above_zero(self, "temperature", "sharpness", "iterations", "num_prototypes")
        checks.zero_or_more(self, "queue")
        checks.share(self, "frozen_share", "queue_share")
        checks.layers(self, "projector")


class SwAV(Method):
    """Global and local views, a projector, and prototypes of unit length."""

    Options = Options
    multi_crop = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        width = options.projector[-1]
        self.projector = mlp(self.num_features, *options.projector, last="linear")
        self.prototypes = Prototypes(width, options.num_prototypes)
        queues = [Queue(options.queue, width) for _ in range(2)] if options.queue else []
        self.queues = cast(Sequence[Queue], nn.ModuleList(queues))

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        o = self.options
        scores = [self.prototypes(z, frozen=self.progress < o.frozen_share) for z in embeddings]
        codes = [self.codes(i, s.detach()) for i, s in enumerate(scores[:2])]
        for queue, z in zip(self.queues, embeddings, strict=False):
            queue.push(z)
        return {"loss": swav(scores, codes, o.temperature)}

    @torch.no_grad()
    def codes(self, view: int, scores: Tensor) -> Tensor:
        """Of one global view's scores [N, K]; earlier embeddings are scored anew, since the prototypes move."""
        o, earlier = self.options, scores[:0]
        if o.queue and self.progress >= o.queue_share:
            earlier = self.prototypes(self.queues[view].filled)
        return sinkhorn(scores, earlier, o.sharpness, o.iterations)
