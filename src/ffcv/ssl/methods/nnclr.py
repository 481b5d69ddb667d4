"""NNCLR: Dwibedi et al., "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual
Representations", ICCV 2021, https://arxiv.org/abs/2104.14548, equations 2 and 3 and algorithm 1.

With z the projection of one view, NN(z) the most similar of a queue of earlier projections, and p the predictions of
the other views of all images,

    loss = 1/2 mean_i -log( exp(NN(z_i) . p_i / t) / sum_j exp(NN(z_i) . p_j / t) )  +  the same, views exchanged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl.distributed import gather
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import in_float32, info_nce
from ffcv.ssl.methods.base import Method


@torch.no_grad()
@in_float32
def nearest(z: Tensor, queue: Tensor) -> Tensor:
    """For each row of z [N, E] the most similar row of the queue, unit-length rows [M, E]."""
    return queue[(F.normalize(z, dim=1) @ queue.T).argmax(1)]


def nnclr(projections: Sequence[Tensor], predictions: Sequence[Tensor], queue: Tensor, temperature: float) -> Tensor:
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
        if self.temperature <= 0:
            raise ConfigError(f"nnclr.temperature must be above 0, got {self.temperature}")
        if self.queue < 1:
            raise ConfigError(f"nnclr.queue must be above 0, got {self.queue}")
        if not self.projector:
            raise ConfigError("nnclr.projector must name one layer or more")


class NNCLR(Method):
    """Two views, a projector, a predictor, and a queue of the first views' projections."""

    Options = Options
    queue: Tensor
    position: Tensor

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        width = options.projector[-1]
        self.projector = mlp(self.num_features, *options.projector)
        self.predictor = mlp(width, options.hidden, width, last="linear")
        self.register_buffer("queue", F.normalize(torch.randn(options.queue, width), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def embed(self, features: Tensor) -> Tensor:
        return self.projector(features)

    def loss(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None = None,
        targets: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        loss = nnclr(embeddings, [self.predictor(z) for z in embeddings], self.queue, self.options.temperature)
        self.enqueue(embeddings[0])
        return {"loss": loss}

    @torch.no_grad()
    def enqueue(self, z: Tensor) -> None:
        """Replace the queue's oldest rows by all ranks' z [N, E]."""
        rows = gather(F.normalize(z.detach().float(), dim=1)).rows[-len(self.queue) :]
        places = (self.position + torch.arange(len(rows), device=rows.device)) % len(self.queue)
        self.queue[places] = rows.to(self.queue.dtype)
        self.position.copy_((self.position + len(rows)) % len(self.queue))
