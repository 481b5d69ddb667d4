"""NNCLR: Dwibedi et al., "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual
Representations", ICCV 2021, https://arxiv.org/abs/2104.14548, equations 2 and 3 and algorithm 1.

With z the projection of one view, NN(z) the most similar of a queue of earlier projections, and p the predictions of
the other views of all images,

    loss = 1/2 mean_i -log( exp(NN(z_i) . p_i / t) / sum_j exp(NN(z_i) . p_j / t) )  +  the same, views exchanged
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import cosines, in_float32, info_nce
from ffcv.ssl.memory import Queue
from ffcv.ssl.methods.base import Method, Terms, Views


@torch.no_grad()
@in_float32
def nearest(z: Tensor, queue: Tensor) -> Tensor:
    """For each row of z [N, E] the most similar row of the queue, unit-length rows [M, E]."""
    return queue[cosines(z, queue).argmax(1)]


def nnclr(projections: Views, predictions: Views, queue: Tensor, temperature: float) -> Tensor:
    """The loss of two views, each [N, E] on this rank, and the queue [M, E] that all ranks share."""
    first, second = (nearest(z.detach(), queue) for z in projections)
    return 0.5 * (info_nce(first, predictions[1], temperature) + info_nce(second, predictions[0], temperature))


@dataclass(frozen=True)
class Options:
    """NNCLR's own options.

    Attributes:
        temperature: t above.
        queue: length of the queue; 98304 in the paper.
        projector: widths of the projector's layers; 2048, 2048, 256 in the paper.
        hidden: width of the predictor's hidden layer; 4096 in the paper.
    """

    temperature: float = 0.1
    queue: int = 98304
    projector: tuple[int, ...] = (2048, 2048, 256)
    hidden: int = 4096

    def __post_init__(self) -> None:
        checks.above_zero(self, "temperature", "queue", "hidden")
        checks.layers(self, "projector")


class NNCLR(Method):
    """Two views, a projector, a predictor, and a queue of the first views' projections."""

    Options = Options
    views_apart = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        width = options.projector[-1]
        self.projector = mlp(self.num_features, *options.projector)
        self.predictor = mlp(width, options.hidden, width, last="linear")
        self.queue = Queue(options.queue, width)

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        loss = nnclr(embeddings, [self.predictor(z) for z in embeddings], self.queue.rows, self.options.temperature)
        self.queue.push(embeddings[0])
        return {"loss": loss}
