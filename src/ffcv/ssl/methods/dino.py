"""DINO: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.14294, equations 1 to 4 and algorithm 1.

With g the head's K scores of a view, c the centre, and the mean over all pairs of a global view x (teacher) and
another view x' (student),

    P_s = softmax(g_s(x') / t_s),   P_t = softmax((g_t(x) - c) / t_t),   loss = mean -sum_k P_t log P_s
    c       <- m_c c + (1 - m_c) mean over the batch's global views of g_t
    teacher <- m teacher + (1 - m) student,   m from `momentum` to 1 along a cosine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffcv.ssl.distributed import all_sum, mean, total_rows
from ffcv.ssl.errors import ConfigError
from ffcv.ssl.heads import gelu_mlp
from ffcv.ssl.losses import in_float32
from ffcv.ssl.methods.base import Method
from ffcv.ssl.teacher import Teacher, momentum_at


@in_float32
def dino(
    student: Sequence[Tensor], teacher: Sequence[Tensor], centre: Tensor, temperatures: tuple[float, float]
) -> Tensor:
    """The loss of scores [N, K] on this rank, one tensor a view; the teacher's are of the first ones.

    Args:
        student: scores of all views.
        teacher: scores of the global views, without gradient.
        centre: float [K].
        temperatures: t_s and t_t above.
    """
    losses = []
    for i, scores in enumerate(teacher):
        wanted = ((scores - centre) / temperatures[1]).softmax(1)
        for j, guess in enumerate(student):
            if i != j:
                losses.append(mean(-(wanted * (guess / temperatures[0]).log_softmax(1)).sum(1)))
    return torch.stack(losses).mean()


@torch.no_grad()
@in_float32
def batch_centre(teacher: Sequence[Tensor]) -> Tensor:
    """The mean [K] of all ranks' teacher scores."""
    scores = torch.cat(list(teacher))
    return all_sum(scores.sum(0)) / total_rows(scores)


class Head(nn.Module):
    """A GELU network, unit length, and a last layer whose rows have unit length: scores are cosines, [-1, 1].

    The authors' weight normalisation with its gain fixed at 1.
    """

    def __init__(self, features: int, widths: Sequence[int], num_scores: int) -> None:
        super().__init__()
        self.layers = gelu_mlp(features, *widths)
        self.last = nn.Linear(widths[-1], num_scores, bias=False)

    def forward(self, features: Tensor, freeze_last: bool = False) -> Tensor:
        weight = self.last.weight
        if freeze_last:
            # Gradients of zero rather than none, which data parallelism would take for an unused parameter.
            weight = weight.detach() + 0 * weight
        return F.linear(F.normalize(self.layers(features), dim=1), F.normalize(weight, dim=1))


@dataclass(frozen=True)
class Options:
    """DINO's own options.

    Attributes:
        student_temperature: t_s above.
        teacher_temperature: t_t above after its warm-up.
        first_temperature: t_t at the start, rising in a line over `warmup_share` of the training.
        warmup_share: 0.3 in the paper (30 of 100 epochs).
        centre_momentum: m_c above.
        momentum: of the teacher at the start.
        frozen_share: share of the training in which the last layer keeps still; the paper's first epoch of 100.
        head: widths of the head's layers before the scores.
        num_scores: K above.
    """

    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    first_temperature: float = 0.04
    warmup_share: float = 0.3
    centre_momentum: float = 0.9
    momentum: float = 0.996
    frozen_share: float = 0.01
    head: tuple[int, ...] = (2048, 2048, 256)
    num_scores: int = 65536

    def __post_init__(self) -> None:
        for name in ("student_temperature", "teacher_temperature", "first_temperature", "num_scores"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"dino.{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup_share", "centre_momentum", "momentum", "frozen_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"dino.{name} must be in [0, 1], got {getattr(self, name)}")
        if not self.head:
            raise ConfigError("dino.head must name one layer or more")


class DINO(Method):
    """Two global views for the teacher, all views for the student, and the teacher to keep."""

    Options = Options
    multi_crop = True
    centre: Tensor

    def __init__(self, backbone: nn.Module, options: Options) -> None:
        super().__init__(backbone, options)
        self.head = Head(self.num_features, options.head, options.num_scores)
        self.teacher = Teacher(backbone, self.head)
        self.register_buffer("centre", torch.zeros(options.num_scores))

    @property
    def encoder(self) -> nn.Module:
        return self.teacher.network[0]

    def embed(self, features: Tensor) -> Tensor:
        return self.head(features, freeze_last=self.step < self.options.frozen_share * self.total_steps)

    def targets(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.teacher(torch.cat(list(views[:2]))).chunk(2)

    def loss(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None = None,
        targets: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        assert targets is not None
        loss = dino(embeddings, targets, self.centre, (self.options.student_temperature, self.temperature))
        self.centre.lerp_(batch_centre(targets).to(self.centre.dtype), 1 - self.options.centre_momentum)
        return {"loss": loss}

    @property
    def temperature(self) -> float:
        """The teacher's, t_t, at this step."""
        o, warmup = self.options, self.options.warmup_share * self.total_steps
        done = min(1.0, self.step / warmup) if warmup > 0 else 1.0
        return o.first_temperature + done * (o.teacher_temperature - o.first_temperature)

    def after_step(self, step: int, total_steps: int) -> None:
        momentum = momentum_at(step, total_steps, self.options.momentum)
        self.teacher.follow(self.backbone, self.head, momentum=momentum)
