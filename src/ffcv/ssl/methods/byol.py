"""BYOL: Grill et al., "Bootstrap your own latent: A new approach to self-supervised learning", NeurIPS 2020,
https://arxiv.org/abs/2006.07733, equations 1 to 3 and section 3.3.

With q the online network's prediction for one view and z' the teacher's projection of the other,

    loss = 2 - 2 cos(q(z), z')  +  the same with the views exchanged
    teacher <- m teacher + (1 - m) online,   m from `momentum` to 1 along a cosine
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ffcv.ssl import checks
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import cosine
from ffcv.ssl.methods.base import TaughtMethod, Terms, Views


def byol(predictions: Views, targets: Views) -> Tensor:
    """Equation 2, symmetrised: each view's prediction against the other's target, each [N, E] on this rank."""
    return 4 - 2 * cosine(predictions[0], targets[1]) - 2 * cosine(predictions[1], targets[0])


@dataclass(frozen=True)
class Options:
    """BYOL's own options.

    Attributes:
        momentum: of the teacher at the start, 0.996 in the paper for long training.
        projector: widths of the projector's layers; 4096, 256 in the paper.
        hidden: width of the predictor's hidden layer; 4096 in the paper.
    """

    momentum: float = 0.996
    projector: tuple[int, ...] = (4096, 256)
    hidden: int = 4096

    def __post_init__(self) -> None:
        checks.share(self, "momentum")
        checks.above_zero(self, "hidden")
        checks.layers(self, "projector")


class BYOL(TaughtMethod):
    """Two views, a projector, a predictor, and a teacher that follows backbone and projector."""

    Options = Options
    views_apart = True

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="linear")
        self.predictor = mlp(options.projector[-1], options.hidden, options.projector[-1], last="linear")
        self.make_teacher()

    def loss(self, embeddings: Views, labels: Tensor | None = None, targets: Views = ()) -> Terms:
        return {"loss": byol([self.predictor(z) for z in embeddings], targets)}
