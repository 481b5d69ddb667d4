"""SimSiam: Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021,
https://arxiv.org/abs/2011.10566, equations 1 to 4 and algorithm 1.

With z the projection of a view, p the prediction made from it, and no gradient through z,

    loss = - 1/2 cos(p_1, z_2) - 1/2 cos(p_2, z_1)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import cosine
from ffcv.ssl.methods.base import Method, Terms, Views


def simsiam(predictions: Views, projections: Views) -> Tensor:
    """The loss of two views, each [N, E] on this rank; -1 is the least."""
    first, second = (z.detach() for z in projections)
    return -0.5 * (cosine(predictions[0], second) + cosine(predictions[1], first))


@dataclass(frozen=True)
class Options:
    """SimSiam's own options.

    Attributes:
        projector: widths of the projector's layers; 2048 three times in the paper, twice for CIFAR-10.
        hidden: width of the predictor's hidden layer, a quarter of the embedding's in the paper.
    """

    projector: tuple[int, ...] = (2048, 2048, 2048)
    hidden: int = 512

    def __post_init__(self) -> None:
        checks.above_zero(self, "hidden")
        checks.layers(self, "projector")


class SimSiam(Method):
    """Two views, a projector, a predictor, and a stopped gradient."""

    Options = Options
    views_apart = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="fixed norm")
        self.predictor = mlp(options.projector[-1], options.hidden, options.projector[-1], last="linear")

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        return {"loss": simsiam([self.predictor(z) for z in embeddings], embeddings)}
