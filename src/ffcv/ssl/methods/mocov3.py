"""MoCo v3: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.02057, equation 1 and algorithm 1.

With q_i the student's prediction for one view and k the teacher's projections of the other views of all images,

    loss = 2 t  mean_i -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )  +  the same with the views exchanged
    teacher <- m teacher + (1 - m) student,   m from `momentum` to 1 along a cosine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import mlp
from ffcv.ssl.losses import info_nce
from ffcv.ssl.methods.base import Method
from ffcv.ssl.teacher import Teacher, momentum_at


def mocov3(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
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
        if self.temperature <= 0:
            raise ConfigError(f"mocov3.temperature must be above 0, got {self.temperature}")
        if not 0 <= self.momentum <= 1:
            raise ConfigError(f"mocov3.momentum must be in [0, 1], got {self.momentum}")
        if not self.projector:
            raise ConfigError("mocov3.projector must name one layer or more")


class MoCoV3(Method):
    """Two views, a projector, a predictor, and a teacher that follows backbone and projector."""

    Options = Options

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.projector = mlp(self.num_features, *options.projector, last="fixed norm")
        self.predictor = mlp(options.projector[-1], options.hidden, options.projector[-1], last="fixed norm")
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
        return {"loss": mocov3([self.predictor(z) for z in embeddings], targets, self.options.temperature)}

    def after_step(self, step: int, total_steps: int) -> None:
        momentum = momentum_at(step, total_steps, self.options.momentum)
        self.teacher.follow(self.backbone, self.projector, momentum=momentum)
