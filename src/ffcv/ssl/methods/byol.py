"""BYOL: Grill et al., "Bootstrap your own latent: A new approach to self-supervised learning", NeurIPS 2020,
https://arxiv.org/abs/2006.07733, equations 1 to 3 and section 3.3.

With q the online network's prediction for one view and z' the teacher's projection of the other,

    loss = 2 - 2 cos(q(z), z')  +  the same with the views exchanged
    teacher <- m teacher + (1 - m) online,   m from `momentum` to 1 along a cosine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import cosine
from ffcv.ssl.methods.base import Method
from ffcv.ssl.teacher import Teacher, momentum_at


def byol(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
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
        if not 0 <= self.momentum <= 1:
            raise ConfigError(f"byol.momentum must be in [0, 1], got {self.momentum}")
        if not self.projector:
            raise ConfigError("byol.projector must name one layer or more")


class BYOL(Method):
    """Two views, a projector, a predictor, and a teacher that follows backbone and projector."""

    Options = Options

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="linear")
        self.predictor = mlp(options.projector[-1], options.hidden, options.projector[-1], last="linear")
        self.teacher = Teacher(backbone, self.projector)

    def embed(self, features: Tensor) -> Tensor:
        return self.projector(features)

    def targets(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.teacher(torch.cat(list(views))).chunk(len(views))

    def loss(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None = None,
        targets: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        assert targets is not None
        return {"loss": byol([self.predictor(z) for z in embeddings], targets)}

    def after_step(self, step: int, total_steps: int) -> None:
        momentum = momentum_at(step, total_steps, self.options.momentum)
        self.teacher.follow(self.backbone, self.projector, momentum=momentum)
