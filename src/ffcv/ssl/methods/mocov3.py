"""MoCo v3: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.02057, equation 1 and algorithm 1.

With q_i the student's prediction for one view and k the teacher's projections of the other views of all images,

    loss = 2 t  mean_i -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )  +  the same with the views exchanged
    teacher <- m teacher + (1 - m) student,   m from `momentum` to 1 along a cosine
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import info_nce
from ffcv.ssl.methods.base import TaughtMethod, Terms, Views


def mocov3(queries: Views, keys: Views, temperature: float) -> Tensor:
    """The loss of two views' predictions and targets, each [N, E] on this rank."""
    first, second = (info_nce(q, k, temperature) for q, k in zip(queries, reversed(keys), strict=True))
    return 2 * temperature * (first + second)


@dataclass(frozen=True)
class Options:
    """MoCo v3's own options.

    Attributes:
        temperature: t above; 0.2 in the paper for ViT, 1.0 for ResNet-50.
        momentum: of the teacher at the start.
        projector: widths of the projector's layers; 4096, 4096, 256 in the paper.
        hidden: width of the predictor's hidden layer; 4096 in the paper.
    """

    temperature: float = 0.2
    momentum: float = 0.99
    projector: tuple[int, ...] = (4096, 4096, 256)
    hidden: int = 4096

    def __post_init__(self) -> None:
        checks.above_zero(self, "temperature", "hidden")
        checks.share(self, "momentum")
        checks.layers(self, "projector")


class MoCoV3(TaughtMethod):
    """Two views, a projector, a predictor, and a teacher that follows backbone and projector."""

    Options = Options
    views_apart = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="fixed norm")
        self.predictor = mlp(options.projector[-1], options.hidden, options.projector[-1], last="fixed norm")
        self.make_teacher()

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        return {"loss": mocov3([self.predictor(z) for z in embeddings], targets, self.options.temperature)}
